# Random keys, constants and conditions for the differential test, as SQL.
#
# What the reduction may leave out is marked with comments: /*<*/ ... /*>*/ is a
# condition, /*{*/ ... /*}*/ a clause, /*[*/ a /*,*/ b /*]*/ a list.
package Differential::Values;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

our @EXPORT = qw($OWN pick chance up_to %types make key column shown constant prepared plain
  condition conditions list order opposite partner_type);

# Rows with lesser ids belong to the session that asks, the others to sessions beside
# it: so nobody waits for a row, and no transaction has to be repeated.
our $OWN = 1_000_000_000;

# A type's SQL expression for a whole number {x}, its special values, the other
# types of its operator family, and whether equal values may look different.
my @ints = qw(int2 int4 int8);
my @datetimes = qw(date timestamp timestamptz);
my @floats = qw(float4 float8);
our %types = (
	int2 => { make => '(({x}) % 32768)::int2', family => \@ints,
		special => [ -32768, -32767, -1, 0, 32766, 32767 ] },
	int4 => { make => '(({x}) % 2147483648)::int4', family => \@ints,
		special => [ -2147483648, -32769, -1, 0, 32768, 2147483647 ] },
	int8 => { make => '({x})::int8', family => \@ints,
		special => [ '-9223372036854775808', -2147483649, 0, 2147483648, '9223372036854775807' ] },
	oid => { make => '(abs({x}) % 4294967296)::oid', family => ['oid'],
		special => [ 0, 1, 2147483648, 4294967295 ] },
	date => { make => q{(date '2000-01-01' + (({x}) / 3600000000 % 1000000)::int4)}, family => \@datetimes,
		special => [ '-infinity', '4714-11-24 BC', '0001-01-01 BC', '294277-01-01', '5874897-12-31', 'infinity' ] },
	timestamp => { make => q{(timestamp '2000-01-01' + ({x}) * interval '1 us')}, family => \@datetimes,
		special => [ '-infinity', '4714-11-24 00:00:00 BC', '2011-03-27 02:30', '294276-12-31 23:59:59.999999', 'infinity' ] },
	timestamptz => { make => q{(timestamptz '2000-01-01 00:00+00' + ({x}) * interval '1 us')}, family => \@datetimes,
		special => [ '-infinity', '4714-11-24 00:00:00+00 BC', '2011-10-30 01:30+00', '294276-12-31 23:59:59.999999+00', 'infinity' ] },
	time => { make => q{(time '00:00' + ({x}) * interval '1 us')}, family => ['time'],
		special => [ '00:00', '23:59:59.999999', '24:00' ] },
	float4 => { make => '(({x}) / 8.0)::float4', family => \@floats, zeros => 1,
		special => [ '-Infinity', '-3.4028235e38', '-0', '0', '1e-45', '0.1', '3.4028235e38', 'Infinity', 'NaN' ] },
	float8 => { make => '(({x}) / 10.0)::float8', family => \@floats, zeros => 1,
		special => [ '-Infinity', '-1e300', '-0', '0', '5e-324', '0.1', '1.7976931348623157e308', 'Infinity', 'NaN' ] },
	uuid => { make => q{lpad(to_hex({x}), 32, '0')::uuid}, family => ['uuid'],
		special => [ '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff',
			'00000000-0000-0001-0000-000000000000' ] });

sub pick { return $_[ int(rand(@_)) ]; }
sub chance { return rand() < $_[0]; }
sub up_to { return int(rand($_[0] + 1)); }

sub list { return '/*[*/' . join(' /*,*/, ', @_) . '/*]*/'; }

sub make
{
	my ($type, $x) = @_;
	(my $expression = $types{$type}{make}) =~ s/\{x\}/$x/;
	return $expression;
}

# A type for the table that t is joined with. Comparisons with timestamptz depend
# on the time zone, and are not transitive where it changes: no merge join of it
# with another type is right.
sub partner_type
{
	my ($type) = @_;
	return $type if $type eq 'timestamptz';
	return pick(grep { $_ ne 'timestamptz' } @{ $types{$type}{family} });
}

# The whole number behind a row's key, as an SQL expression on a row number.
sub key_number
{
	my ($table, $row, $salt) = @_;
	my ($kind, $span) = @{$table}{qw(distribution span)};
	return "($row * $span)" if $kind eq 'serial';
	return "($row * $span + hashint8extended($row, $salt) % (3 * $span))" if $kind eq 'jitter';
	return "(hashint8extended($row, $salt) % $span)" if $kind eq 'random';
	return "($row % ($span % 97 + 1))" if $kind eq 'few';
	return "($row / 64 * $span + $row % 64)" if $kind eq 'clusters';
	return "($row * $row)";    # squares
}

# The key of a row, as `type`: NULL and special values now and then.
sub key
{
	my ($table, $row, $type) = @_;
	$type //= $table->{type};
	my @special = map { "'$_'::$type" } @{ $types{$type}{special} };
	my $made = make($type, key_number($table, $row, $table->{salt}));
	my @when;
	push @when, "WHEN abs(hashint8extended($row, 1) % 1000) < $table->{nulls} THEN NULL" if $table->{nulls};
	push @when, "WHEN abs(hashint8extended($row, 2) % 1000) < $table->{specials} THEN (ARRAY[" . join(', ', @special)
	  . "])[abs(hashint8extended($row, 3) % " . @special . ') + 1]' if $table->{specials};
	return @when ? "CASE @when ELSE $made END" : $made;
}

# What is indexed, of a or b (which are t) or c (which is u).
sub column
{
	my ($table, $alias) = @_;
	return "$alias.%C" if $alias eq 'c' || !$table->{expression};
	return "(CASE WHEN $alias.id % 7 = 0 THEN NULL ELSE $alias.%C END)";
}

# As text that is the same for equal keys.
sub shown
{
	my ($table, $alias, $column) = @_;
	$column //= column($table, $alias);
	return $types{ $table->{type} }{zeros} ? "($column + 0)::text" : "($column)::text";
}

# A constant of a type: special, or one near the data of the table. It may become
# a parameter, and is in control characters for that.
sub constant
{
	my ($table, $type) = @_;
	my $constant = chance(0.15) ? sprintf("'%s'::%s", pick(@{ $types{$type}{special} }), $type)
	  : make($type, key_number($table, '(' . (1 + up_to($table->{last})) . ')::int8', chance(0.8) ? $table->{salt} : 999));
	return "\x01$type\x02$constant\x03";
}

# A text with its constants in place.
sub plain { return $_[0] =~ s/\x01[^\x02]*\x02([^\x03]*)\x03/$1/gr; }

# A text with parameters instead, their types and their values.
sub prepared
{
	my ($text) = @_;
	my (@types, @values);
	while ($text =~ /\x01([^\x02]*)\x02([^\x03]*)\x03/)
	{
		my ($type, $value) = ($1, $2);
		push @types, $type;
		push @values, $value;
		my $number = @types;
		$text =~ s/\x01[^\x03]*\x03/\$$number/;
	}
	return ($text, join(', ', @types), join(', ', @values));
}

sub condition
{
	my ($table, $alias) = @_;
	my $k = column($table, $alias);
	my $other = pick(@{ $types{ $table->{type} }{family} });
	$other = $table->{type} if chance(0.5);
	my $operator = pick(qw(< <= = >= >));
	my $kind = rand();
	return "$k IS NULL" if $kind < 0.04;
	return "$k IS NOT NULL" if $kind < 0.08;
	if ($kind < 0.22)
	{
		my @elements = map { chance(0.1) ? "NULL::$other" : constant($table, $other) } 1 .. pick(1, 2, 5, 40);
		push @elements, @elements[ 0 .. up_to($#elements) ] if chance(0.3);
		return sprintf('%s %s ANY (ARRAY[%s]::%s[])', $k, chance(0.6) ? '=' : $operator, list(@elements), $other);
	}
	return "$k = ANY ('{}'::${other}[])" if $kind < 0.23;
	return sprintf('%s IN (%s)', $k, list(map { constant($table, $table->{type}) } 1 .. pick(2, 10))) if $kind < 0.27;
	return sprintf('%s %s (SELECT %s)', $k, $operator, chance(0.1) ? "NULL::$other" : constant($table, $other)) if $kind < 0.35;
	return sprintf('%s BETWEEN %s AND %s', $k, constant($table, $other), constant($table, $other)) if $kind < 0.45;
	return sprintf('%s %s %s', constant($table, $other), $operator, $k) if $kind < 0.5;
	return sprintf('%s %s %s', $k, $operator, constant($table, $other));
}

# Conditions on t, and what a partial index of it asks for.
sub conditions
{
	my ($table, $alias, $count) = @_;
	my $all = join(' AND ', map { '/*<*/' . condition($table, $alias) . '/*>*/' } 1 .. $count // pick(1, 1, 1, 2, 2, 3));
	$all = "(($all) OR /*<*/" . condition($table, $alias) . '/*>*/)' if chance(0.07);
	$all = "($all) AND /*<*/$alias.id % 3 <> 1/*>*/" if chance(0.1);
	$all = "($all) AND $alias.v > 0" if $table->{partial};
	return $all;
}

sub opposite { return $_[0] =~ s/(ASC|DESC) NULLS (FIRST|LAST)/($1 eq 'ASC' ? 'DESC' : 'ASC') . ' NULLS ' . ($2 eq 'FIRST' ? 'LAST' : 'FIRST')/er; }

# An order of t: most often one that the index has.
sub order
{
	my ($table) = @_;
	return pick('ASC', 'DESC') . ' NULLS ' . pick('FIRST', 'LAST') if chance(0.2);
	return chance(0.5) ? $table->{order} : opposite($table->{order});
}

1;
