//! The oracle of every test is SQL itself: the comparison function for the
//! order, the operator for the conditions.

mod classes;
mod conditions;
mod conjunctions;
mod order;
mod values;
