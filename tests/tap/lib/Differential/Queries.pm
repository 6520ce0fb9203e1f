# Random queries of the differential test: each returns a statement that calls
# one of functions.sql.
package Differential::Queries;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

use Differential::Values;

our @EXPORT = qw(query walk quoted);

sub quoted { return '$q$' . $_[0] . '$q$'; }

# A call of compare, now and then with parameters instead of constants.
sub compared
{
	my ($text, $method, $ordered) = @_;
	$ordered = $ordered ? 'true' : 'false';
	if (chance(0.2) && $text =~ /\x01/)
	{
		my ($query, $types, $values) = prepared($text);
		return sprintf('SELECT * FROM compare(%s, %s, %s, %s, %s);', quoted($query), "'$method'", $ordered, quoted($types), quoted($values));
	}
	return sprintf('SELECT * FROM compare(%s, %s, %s);', quoted(plain($text)), "'$method'", $ordered);
}

# The whole row, or what an index-only scan can return.
sub rows
{
	my ($table) = @_;
	my $k = column($table, 'a');
	my $where = conditions($table, 'a');
	return compared("SELECT " . (chance(0.6) ? 'a.id, ' : '') . "($k)::text FROM t a WHERE $where", 'any', 0);
}

sub ordered
{
	my ($table) = @_;
	my ($k, $where, $order) = (column($table, 'a'), conditions($table, 'a'), order($table));
	my $shown = shown($table, 'a') . ' AS shown';
	my $limit = '/*{*/LIMIT ' . pick(1, 2, 10, 500) . '/*}*/ /*{*/OFFSET ' . pick(0, 0, 0, 3, 400) . '/*}*/';
	my $kind = rand();
	# Which of equal keys come is open, if some are cut off.
	return compared("SELECT $shown" . (chance(0.5) ? ', a.id' : '') . " FROM t a WHERE $where ORDER BY $k $order", 'ordered', 1) if $kind < 0.4;
	return compared("SELECT $shown FROM t a WHERE $where ORDER BY $k $order $limit", 'any', 1) if $kind < 0.6;
	return compared("SELECT $shown, a.id FROM t a WHERE $where ORDER BY $k $order, a.id $limit", 'any', 1) if $kind < 0.8;
	return compared("SELECT DISTINCT ON ($k) $shown, a.id FROM t a WHERE $where ORDER BY $k $order, a.id", 'any', 1) if $kind < 0.9;
	return compared("SELECT $shown, a.id FROM t a WHERE $where AND a.id < $OWN AND /*<*/a.id % 10 = 3/*>*/ ORDER BY $k $order FOR UPDATE", 'ordered', 0);
}

sub aggregate
{
	my ($table) = @_;
	my ($k, $where, $order) = (column($table, 'a'), conditions($table, 'a'), order($table));
	my ($s, $ordered) = (shown($table, 'a'), shown($table, 'a') . ' AS shown');
	# uuid has no min and max before version 18.
	my %end = map { $_ => $table->{type} eq 'uuid' ? "(array_agg($k ORDER BY $k " . ($_ eq 'min' ? 'ASC' : 'DESC') . " NULLS LAST))[1]::text" : shown($table, 'a', "$_($k)") } qw(min max);
	my $kind = rand();
	return compared("SELECT $end{min}, $end{max}, count(*), count($k), count(DISTINCT $k), sum(a.id) FROM t a WHERE $where", 'any', 0) if $kind < 0.2;
	# One end by itself is read from that end of the index.
	return compared("SELECT " . $end{ pick(qw(min max)) } . " FROM t a WHERE $where", 'any', 0) if $kind < 0.35;
	return compared("SELECT $ordered, count(*), sum(a.id) FROM t a WHERE $where GROUP BY $k ORDER BY $k $order", 'ordered', 1) if $kind < 0.5;
	return compared("SELECT DISTINCT $s FROM (SELECT DISTINCT $k AS %C FROM t a WHERE $where) a", 'ordered', 0) if $kind < 0.6 && !$table->{expression};
	return compared("SELECT a.id, rank() OVER w, dense_rank() OVER w, count(*) OVER w, sum(a.id) OVER w FROM t a WHERE $where WINDOW w AS (ORDER BY $k $order)", 'ordered', 0) if $kind < 0.75;
	return compared("SELECT lag($s) OVER w, $s, first_value($s) OVER w FROM t a WHERE $where WINDOW w AS (ORDER BY $k $order ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)", 'ordered', 0) if $kind < 0.85;
	return compared("SELECT string_agg($s, ' ' ORDER BY $k $order) FROM t a WHERE $where", 'any', 0);
}

# Few outer rows, so that duplicates do not multiply too much, and PostgreSQL
# need not read the table again for thousands of them where it has no index.
sub joined
{
	my ($table) = @_;
	my ($a, $b, $c) = map { column($table, $_) } qw(a b c);
	my ($if_a, $if_b) = map { $table->{partial} ? "AND $_.v > 0" : '' } qw(a b);
	my $method = pick(qw(any nestloop nestloop mergejoin mergejoin));
	my $step = 1 + int($table->{last} / ($method eq 'mergejoin' ? pick(50, 500) : pick(5, 50)));
	my $few = 1 + int($table->{last} / 5);
	my $other = '/*<*/' . condition($table, 'b') . '/*>*/';
	my $kind = rand();
	return compared("SELECT count(*), sum(a.id * 31 + b.id * 7) FROM t a JOIN t b ON $a = $b $if_b WHERE /*<*/a.id % $step = 1/*>*/ $if_a", $method, 0) if $kind < 0.15;
	return compared("SELECT c.id, count(*), sum(a.id) FROM u c JOIN t a ON $a = $c $if_a WHERE /*<*/c.id % " . pick(1, 3, 20) . " = 0/*>*/ GROUP BY c.id", $method, 0) if $kind < 0.3;
	return compared("SELECT c.id, a.n FROM u c FULL JOIN (SELECT $a AS k, count(*) AS n FROM t a WHERE true $if_a GROUP BY 1) a ON a.k = $c", $method eq 'nestloop' ? 'any' : $method, 0) if $kind < 0.36;
	return compared("SELECT count(*), sum(c.id), sum(a.id) FROM u c " . pick(qw(LEFT RIGHT)) . " JOIN t a ON $a = $c $if_a AND /*<*/a.id % 5 <> 0/*>*/", 'mergejoin', 0) if $kind < 0.42;
	return compared("SELECT c.id FROM u c WHERE " . pick('', 'NOT ') . "EXISTS (SELECT FROM t a WHERE $a = $c $if_a AND /*<*/a.id % 2 = 0/*>*/)", $method, 0) if $kind < 0.54;
	return compared("SELECT a.id FROM t a WHERE $a IN (SELECT $c FROM u c WHERE /*<*/c.id % 3 = 0/*>*/) $if_a", $method, 0) if $kind < 0.64;
	return compared("SELECT a.id FROM t a WHERE a.id % $few = 1 AND EXISTS (SELECT FROM t b WHERE " . pick("$b > $a", "$b < $a", "$b = $a") . " $if_b AND $other)", $method, 0) if $kind < 0.72;
	# The next or the last row before each of some: the scan ends after a row.
	my ($operator, $order) = @{ pick([ '>', 'ASC' ], [ '<', 'DESC' ], [ '>=', 'ASC' ], [ '<=', 'DESC' ]) };
	my $shown = shown($table, 'b');
	return compared("SELECT a.id, b.shown FROM t a LEFT JOIN LATERAL (SELECT $shown AS shown FROM t b WHERE $b $operator $a $if_b AND $other ORDER BY $b $order LIMIT " . pick(1, 1, 3) . ") b ON true WHERE a.id % $few = 1", 'any', 0) if $kind < 0.86;
	return compared("SELECT a.id, b.n FROM t a LEFT JOIN LATERAL (SELECT count(*) AS n FROM t b WHERE " . pick("$b = $a", "$b > $a AND $other", "$b < $a") . " $if_b) b ON true WHERE a.id % $few = 1", 'nestloop', 0);
}

sub nested
{
	my ($table) = @_;
	my ($a, $b, $c) = map { column($table, $_) } qw(a b c);
	my ($where, $inner) = map { conditions($table, $_, 1) } qw(a b);
	my $limit = '/*{*/LIMIT ' . pick(1, 20, 1000) . '/*}*/';
	my $direction = pick('ASC', 'DESC');
	my $kind = rand();
	if ($kind < 0.4)
	{
		my $type = $table->{type};
		my ($sa, $sc) = (shown($table, 'a'), shown($table, 'a', 'x.s'));
		return compared("SELECT $sc AS shown FROM (SELECT ($a)::$type AS s FROM t a WHERE $where UNION ALL SELECT c.%C FROM u c) x ORDER BY s $direction $limit", 'any', 1)
		  if $table->{partner} eq $type;
		return compared("SELECT $sa AS shown, a.id FROM t a WHERE $where UNION ALL SELECT " . shown($table, 'b') . ", b.id FROM t b WHERE $inner", 'any', 0);
	}
	return compared("SELECT a.id FROM t a WHERE $a = (SELECT $b FROM t b WHERE $inner ORDER BY $b $direction LIMIT 1) " . ($table->{partial} ? 'AND a.v > 0' : ''), 'any', 0) if $kind < 0.6;
	return compared("SELECT a.id FROM t a WHERE $where " . pick(qw(INTERSECT EXCEPT)) . " SELECT b.id FROM t b WHERE $inner", 'any', 0) if $kind < 0.8;
	return compared("SELECT a.id, (SELECT count(*) FROM t b WHERE $b = $a " . ($table->{partial} ? 'AND b.v > 0' : '') . ") FROM t a WHERE $where ORDER BY $a $direction, a.id LIMIT 10", 'any', 0);
}

# A query that is asked in all ways.
sub query
{
	my ($table) = @_;
	my $kind = rand();
	return rows($table) if $kind < 0.3;
	return ordered($table) if $kind < 0.55;
	return aggregate($table) if $kind < 0.7;
	return joined($table) if $kind < 0.9;
	return nested($table);
}

# One step of a cursor.
sub move
{
	my $number = pick(0, 1, 1, 2, 5, 31, 33, up_to(400), up_to(3000));
	my $kind = rand();
	return pick('NEXT', 'PRIOR') if $kind < 0.2;
	return pick('FIRST', 'LAST') if $kind < 0.3;
	return pick('FORWARD', 'BACKWARD') . " $number" if $kind < 0.6;
	return 'ABSOLUTE ' . pick('', '-') . $number if $kind < 0.7;
	return 'RELATIVE ' . pick('', '-') . $number if $kind < 0.8;
	return pick('FORWARD ALL', 'BACKWARD ALL') if $kind < 0.84;
	return 'MOVE ' . pick('FORWARD', 'BACKWARD') . ' ALL' if $kind < 0.88;
	return 'MOVE ' . pick('FORWARD', 'BACKWARD', 'ABSOLUTE', 'RELATIVE') . " $number";
}

# A cursor that is moved about, over a change that it must not see.
sub walk
{
	my ($table, $change) = @_;
	my $k = column($table, 'a');
	my $where = chance(0.7) || $table->{partial} ? ' WHERE ' . conditions($table, 'a') : '';
	my $order = chance(0.5) ? $table->{order} : opposite($table->{order});
	my $query = plain('SELECT ' . shown($table, 'a') . " AS shown, id FROM t a$where ORDER BY $k $order");
	my @moves = map { "'" . move() . "'" } 1 .. 25;
	return sprintf('SELECT * FROM walk(%s, ARRAY[%s]::text[], %s);', quoted($query), list(@moves), quoted($change));
}

1;
