//! What the leaves of a tree take in all.
