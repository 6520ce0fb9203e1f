# Random tables, random changes, random queries: omen, btree and the
# sequential scan have to agree.
#
# SEED=n repeats a run, or a table of a run when n is the seed shown for it.
# QUERIES=n is about how many queries are asked. The statements of a table that
# failed are kept beside the server's log.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SEED} // int(rand(2**30));
my $queries = $ENV{QUERIES} // 1500;
my $per_table = 50;
diag("SEED=$seed QUERIES=$queries");

# A type's SQL expression for a whole number {x}, its special values, the other
# types of its operator family, and what to cast it to before adding 0, where
# equal values may look different.
my @ints = qw(int2 int4 int8);
my @datetimes = qw(date timestamp timestamptz);
my @floats = qw(float4 float8);
my %types = (
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
my @types = sort keys %types;

sub pick { return $_[ int(rand(@_)) ]; }
sub chance { return rand() < $_[0]; }
sub up_to { return int(rand($_[0] + 1)); }

sub make
{
	my ($type, $x) = @_;
	(my $expression = $types{$type}{make}) =~ s/\{x\}/$x/;
	return $expression;
}

# A constant of a type: special, or one near the data of the table.
sub constant
{
	my ($table, $type) = @_;
	return sprintf("'%s'::%s", pick(@{ $types{$type}{special} }), $type) if chance(0.15);
	return make($type, key_number($table, '(' . (1 + up_to($table->{last})) . ')::int8', chance(0.8) ? $table->{salt} : 999));
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

# The key of a row: NULL and special values now and then.
sub key
{
	my ($table, $row) = @_;
	my $type = $table->{type};
	my $special = join(', ', map { "'$_'::$type" } @{ $types{$type}{special} });
	my $count = @{ $types{$type}{special} };
	return sprintf('CASE WHEN abs(hashint8extended(%1$s, 1) %% 1000) < %2$d THEN NULL'
		  . ' WHEN abs(hashint8extended(%1$s, 2) %% 1000) < %3$d THEN (ARRAY[%4$s])[abs(hashint8extended(%1$s, 3) %% %5$d) + 1]'
		  . ' ELSE %6$s END',
		$row, $table->{nulls}, $table->{specials}, $special, $count, make($type, key_number($table, $row, $table->{salt})));
}

sub condition
{
	my ($table) = @_;
	my $other = pick(@{ $types{ $table->{type} }{family} });
	$other = $table->{type} if chance(0.5);
	my $operator = pick(qw(< <= = >= >));
	my $kind = rand();
	return 'k IS NULL' if $kind < 0.04;
	return 'k IS NOT NULL' if $kind < 0.08;
	if ($kind < 0.25)
	{
		my @elements = map { chance(0.1) ? "NULL::$other" : constant($table, $other) } 1 .. pick(0, 1, 2, 5, 40);
		return sprintf('k %s ANY (ARRAY[%s]::%s[])', chance(0.6) ? '=' : $operator, join(', ', @elements), $other);
	}
	return sprintf('k %s (SELECT %s)', $operator, chance(0.1) ? "NULL::$other" : constant($table, $other)) if $kind < 0.35;
	return sprintf('k BETWEEN %s AND %s', constant($table, $other), constant($table, $other)) if $kind < 0.45;
	return sprintf('%s %s k', constant($table, $other), $operator) if $kind < 0.5;
	return sprintf('k %s %s', $operator, constant($table, $other));
}

sub conditions
{
	my ($table) = @_;
	my $all = join(' AND ', map { condition($table) } 1 .. pick(1, 1, 1, 2, 2, 3));
	$all = "($all) OR (" . condition($table) . ')' if chance(0.07);
	$all = "($all) AND id % 3 <> 1" if chance(0.1);
	$all = "($all) AND v > 0" if $table->{partial};
	return $all;
}

sub order
{
	return 'ORDER BY k ' . pick('ASC', 'DESC') . ' NULLS ' . pick('FIRST', 'LAST');
}

sub query
{
	my ($table) = @_;
	# Equal keys may come in any order, so an ordered answer shows them as equal.
	my $shown = $types{ $table->{type} }{zeros} ? '(k + 0)::text' : 'k::text';
	my $kind = rand();
	my $where = conditions($table);
	my $text;
	if ($kind < 0.25) { $text = "SELECT id, k::text FROM %T WHERE $where"; }
	elsif ($kind < 0.4) { $text = "SELECT k::text FROM %T WHERE $where"; }
	elsif ($kind < 0.55) { $text = "SELECT $shown FROM %T WHERE $where " . order(); }
	elsif ($kind < 0.65)
	{
		$text = "SELECT $shown FROM %T WHERE $where " . order() . ' LIMIT ' . pick(1, 2, 10, 500) . ' OFFSET ' . pick(0, 0, 0, 3, 400);
	}
	elsif ($kind < 0.73)
	{
		# uuid has no min and max here.
		my $ends = $table->{type} eq 'uuid' ? '' : join(', ', map { (my $end = $shown) =~ s/\bk\b/$_(k)/; $end } qw(min max)) . ', ';
		$text = "SELECT ${ends}count(*), count(k), sum(id) FROM %T WHERE $where";
	}
	elsif ($kind < 0.77)
	{
		# One end by itself is read from that end of the index.
		my ($end, $direction) = chance(0.5) ? ('min', 'ASC') : ('max', 'DESC');
		$text = $table->{type} eq 'uuid' ? "SELECT $shown FROM %T WHERE $where ORDER BY k $direction LIMIT 1"
		  : "SELECT " . ($shown =~ s/\bk\b/$end(k)/r) . " FROM %T WHERE $where";
	}
	else
	{
		# Joins: a few outer rows, so that duplicates do not multiply too much.
		my $equal = chance(0.7);
		my $step = 1 + int($table->{last} / ($equal ? pick(5, 50) : 5));
		my $partial = $table->{partial} ? 'AND b.v > 0' : '';
		my $join = $equal ? 'a.k = b.k' : pick('b.k > a.k AND b.k <= ' . constant($table, $table->{type}), 'b.k < a.k');
		# PostgreSQL might read the outer rows again for every inner one, if the
		# join is not an equation.
		$text = $kind < 0.9 && $equal ? "SELECT count(*), sum(a.id * 31 + b.id * 7) FROM %T a JOIN %T b ON $join $partial WHERE a.id % $step = 1"
		  : $kind < 0.95 ? "SELECT a.id FROM %T a WHERE a.id % $step = 1 AND EXISTS (SELECT FROM %T b WHERE $join $partial)"
		  : "SELECT a.id, b.n FROM %T a LEFT JOIN LATERAL (SELECT count(*) AS n FROM %T b WHERE $join $partial) b ON true WHERE a.id % $step = 1";
	}
	$text =~ s/'/''/g;
	return "SELECT * FROM compare('$text', '" . pick(qw(any any nestloop mergejoin)) . "');";
}

# A cursor that is moved about, over changes that it must not see.
sub walk
{
	my ($table) = @_;
	my $text = 'SELECT ' . ($types{ $table->{type} }{zeros} ? '(k + 0)::text' : 'k::text') . ' FROM %T';
	$text .= ' WHERE ' . conditions($table) if chance(0.7) || $table->{partial};
	$text .= " ORDER BY k $table->{order}" if !chance(0.5);
	$text .= ' ORDER BY k ' . ($table->{order} =~ /ASC/ ? 'DESC' : 'ASC') . ' NULLS ' . ($table->{order} =~ /FIRST/ ? 'LAST' : 'FIRST')
	  if $text !~ /ORDER BY/;
	my @moves = map { pick(1, 1, 1, -1, 0, 5, -5, up_to(400), -up_to(400), up_to(3000), -up_to(3000)) } 1 .. 40;
	my $change = chance(0.6) ? change($table, '%T') : '';
	s/'/''/g for $text, $change;
	return ('BEGIN;', "SELECT * FROM walk('$text', '{" . join(',', @moves) . "}', '$change');", 'ROLLBACK;');
}

# One statement that changes a table.
sub change
{
	my ($table, $name) = @_;
	my $kind = rand();
	my ($first, $many) = ($table->{last} + 1, pick(1, 30, 300, 300, 3000));
	if ($kind < 0.45)
	{
		$table->{last} += $many;
		# New keys, or keys that are there already.
		my $row = chance(0.6) ? 'g::int8' : "(abs(hashint8extended(g, $first)) % $first + 1)";
		return "INSERT INTO $name SELECT g, " . key($table, $row) . ", g % 5, repeat('x', (g % 90)::int4) FROM generate_series($first, $table->{last}) g";
	}
	my $modulus = pick(2, 3, 7, 50, 1000);
	my $some = "abs(hashint8extended(id, $first)) % $modulus = 0";
	return "UPDATE $name SET v = v + 1 WHERE $some" if $kind < 0.55;
	return "UPDATE $name SET k = " . key($table, '(id + ' . up_to(50) . ')') . " WHERE $some" if $kind < 0.7;
	return "DELETE FROM $name WHERE $some" if $kind < 0.85;
	return "DELETE FROM $name WHERE k >= " . constant($table, $table->{type}) . ' AND k < ' . constant($table, $table->{type}) if $kind < 0.93;
	return "DELETE FROM $name WHERE id BETWEEN " . up_to($table->{last}) . ' AND ' . up_to($table->{last}) if $kind < 0.98;
	return "DELETE FROM $name";
}

sub both { return map { my $statement = $_[0]; $statement =~ s/%T/$_/g; "$statement;" } qw(t_omen t_btree); }

# Transactions with savepoints, maintenance, and transactions that keep VACUUM
# from removing anything.
sub step
{
	my ($table) = @_;
	my $kind = rand();
	return both(change($table, '%T')) if $kind < 0.4;
	return both('VACUUM %T') if $kind < 0.65;
	if ($kind < 0.9)
	{
		my @statements = ('BEGIN;');
		for my $level (1 .. pick(1, 2, 4))
		{
			push @statements, both(change($table, '%T'));
			push @statements, 'SAVEPOINT s;', both(change($table, '%T')), pick('ROLLBACK TO s;', 'ROLLBACK TO s;', 'RELEASE s;');
			push @statements, query($table) if chance(0.3);
		}
		return (@statements, chance(0.7) ? 'COMMIT;' : 'ROLLBACK;');
	}
	if ($kind < 0.94 && !$table->{held})
	{
		$table->{held} = 1;
		return ('BEGIN;', 'INSERT INTO held VALUES (1);', "PREPARE TRANSACTION 'hold';");
	}
	if ($kind < 0.96 && $table->{held})
	{
		$table->{held} = 0;
		return ("ROLLBACK PREPARED 'hold';");
	}
	return ('REINDEX INDEX t_omen_k;') if $kind < 0.98;
	return both('ANALYZE %T') if $kind < 0.99;
	return both('TRUNCATE %T');
}

# All statements of one table.
sub table_script
{
	my $type = pick(@types);
	my $table = {
		type => $type,
		distribution => pick(qw(serial jitter random random few clusters squares)),
		span => pick(1, 7, 100, 1000, 1000000, 4000000000, 90000000000),
		order => pick('ASC', 'DESC') . ' NULLS ' . pick('FIRST', 'LAST'),
		nulls => pick(0, 0, 10, 100, 900),
		specials => pick(0, 10, 100),
		salt => up_to(100),
		partial => chance(0.1),
		last => pick(0, 1, 100, 1000, 3000, 10000, 20000),
		held => 0 };
	my $options = sprintf('fillfactor = %d, model = %s', pick(10, 50, 70, 90, 90, 100), pick(qw(auto linear rmi pla)));
	my $where = $table->{partial} ? ' WHERE v > 0' : '';
	my $zone = pick(qw(UTC America/New_York Europe/Berlin Australia/Lord_Howe Asia/Kathmandu));
	my @create = both("CREATE TABLE %T (id int8, k $type, v int4, filler text) WITH (autovacuum_enabled = off)");
	my @fill = both("INSERT INTO %T SELECT g, " . key($table, 'g::int8') . ", g % 5, repeat('x', (g % 90)::int4) FROM generate_series(1, $table->{last}) g");
	my @index = ("CREATE INDEX t_omen_k ON t_omen USING omen (k $table->{order}) WITH ($options)$where;",
		"CREATE INDEX t_btree_k ON t_btree USING btree (k $table->{order})$where;");
	my @script = ('DROP TABLE IF EXISTS t_omen, t_btree;', "SET timezone = '$zone';",
		'SET omen.router_memory = ' . pick('0', "'64kB'", "'4MB'", "'4MB'") . ';',
		@create, chance(0.7) ? (@fill, @index) : (@index, @fill));
	push @script, both('VACUUM ANALYZE %T') if chance(0.7);
	my $asked = 0;
	while ($asked < $per_table)
	{
		push @script, step($table);
		for (1 .. pick(2, 5, 8))
		{
			push @script, chance(0.12) ? walk($table) : ('BEGIN ISOLATION LEVEL REPEATABLE READ;', query($table), 'COMMIT;');
			$asked++;
		}
	}
	push @script, "ROLLBACK PREPARED 'hold';" if $table->{held};
	my $name = "$type $table->{order}, $table->{distribution} $table->{span}, $options" . ($where ? ', partial' : '');
	return ($name, join("\n", @script) . "\n");
}

my $functions = <<'SQL';
CREATE EXTENSION omendb_index;
CREATE TABLE held (a int4);

-- Makes the planner take one kind of scan, and of join.
CREATE FUNCTION force(scan text, method text) RETURNS void LANGUAGE sql AS $$
	SELECT set_config('enable_seqscan', (scan IN ('seq', 'any'))::text, true),
		set_config('enable_indexscan', (scan IN ('index', 'index only', 'any'))::text, true),
		set_config('enable_indexonlyscan', (scan IN ('index only', 'any'))::text, true),
		set_config('enable_bitmapscan', (scan IN ('bitmap', 'any'))::text, true),
		set_config('enable_hashjoin', (method = 'any')::text, true),
		set_config('enable_nestloop', (method IN ('any', 'nestloop'))::text, true),
		set_config('enable_mergejoin', (method IN ('any', 'mergejoin'))::text, true),
		set_config('enable_sort', (method <> 'mergejoin')::text, true)
$$;

-- Asks a query of the twins: first the sequential scan, then each kind of scan.
-- A problem is a scan with another answer. `tried` and `scans` count the ways
-- that omen was asked, and those in which its index was scanned.
CREATE FUNCTION compare(query text, method text, OUT tried int, OUT scans int, OUT problem text)
LANGUAGE plpgsql AS $$
DECLARE
	wanted text[];
	got text[];
	scan text;
	tab text;
	before bigint;
	index_oid oid := 't_omen_k'::regclass;
	ordered boolean := query LIKE '%ORDER BY%';
BEGIN
	tried := 0;
	scans := 0;
	FOREACH scan IN ARRAY '{seq,btree index,index,index only,bitmap,any}'::text[] LOOP
		tab := CASE WHEN scan IN ('seq', 'btree index') THEN 't_btree' ELSE 't_omen' END;
		PERFORM force(replace(scan, 'btree ', ''), CASE scan WHEN 'seq' THEN 'any' ELSE method END);
		before := pg_stat_get_xact_numscans(index_oid);
		IF ordered THEN
			EXECUTE format('SELECT array_agg(r::text) FROM (%s) r', replace(query, '%T', tab)) INTO got;
		ELSE
			EXECUTE format('SELECT array_agg(r::text ORDER BY r::text) FROM (%s) r', replace(query, '%T', tab)) INTO got;
		END IF;
		IF scan = 'seq' THEN
			wanted := got;
		ELSIF got IS DISTINCT FROM wanted AND scan <> 'btree index' THEN
			problem := concat(problem, E'\nPROBLEM ', scan, ': ', coalesce(cardinality(got), 0), ' rows instead of ',
				coalesce(cardinality(wanted), 0), ', first difference ',
				(SELECT concat(i, ': ', got[i], ' instead of ', wanted[i])
					FROM generate_series(1, greatest(cardinality(got), cardinality(wanted))) i
					WHERE got[i] IS DISTINCT FROM wanted[i] LIMIT 1), E'\n', query);
		ELSIF got IS DISTINCT FROM wanted AND query !~ 'timestamp|date' THEN
			-- btree itself is wrong near transitions of the time zone only.
			problem := concat(problem, E'\nPROBLEM btree: twins differ? ', query);
		END IF;
		IF tab = 't_omen' THEN
			tried := tried + 1;
			scans := scans + (pg_stat_get_xact_numscans(index_oid) > before)::int4;
		END IF;
	END LOOP;
	PERFORM force('any', 'any');
END
$$;

-- Moves a cursor about, with a change half way.
CREATE FUNCTION walk(query text, moves int4[], change text, OUT tried int, OUT scans int, OUT problem text)
LANGUAGE plpgsql AS $$
DECLARE
	wanted text[];
	scan text;
	c refcursor;
	place int4;
	move int4;
	step int4;
	got text;
	present boolean;
	before bigint;
	index_oid oid := 't_omen_k'::regclass;
BEGIN
	tried := 0;
	scans := 0;
	PERFORM force('seq', 'any');
	EXECUTE format('SELECT coalesce(array_agg(r.k), ''{}'') FROM (%s) r (k)', replace(query, '%T', 't_btree')) INTO wanted;
	FOREACH scan IN ARRAY '{index only,index}'::text[] LOOP
		PERFORM force(scan, 'any');
		before := pg_stat_get_xact_numscans(index_oid);
		OPEN c SCROLL FOR EXECUTE replace(query, '%T', 't_omen');
		place := 0;
		step := 0;
		FOREACH move IN ARRAY moves LOOP
			step := step + 1;
			IF step = cardinality(moves) / 2 AND change <> '' AND scan = 'index' THEN
				EXECUTE replace(change, '%T', 't_omen');
			END IF;
			IF step % 7 = 0 THEN
				FETCH ABSOLUTE move FROM c INTO got;
				present := FOUND;
				place := CASE WHEN move >= 0 THEN least(move, cardinality(wanted) + 1)
					ELSE greatest(0, cardinality(wanted) + 1 + move) END;
			ELSE
				FETCH RELATIVE move FROM c INTO got;
				present := FOUND;
				place := greatest(0, least(cardinality(wanted) + 1, place + move));
			END IF;
			IF present <> (place BETWEEN 1 AND cardinality(wanted)) OR present AND got IS DISTINCT FROM wanted[place] THEN
				problem := concat(problem, E'\nPROBLEM cursor on ', scan, ' scan: move ', step, ' to ', place, ' of ', cardinality(wanted),
					': ', got, ' instead of ', wanted[place], E'\n', query, E'\n', moves, E'\n', change);
				EXIT;
			END IF;
		END LOOP;
		CLOSE c;
		tried := tried + 1;
		scans := scans + (pg_stat_get_xact_numscans(index_oid) > before)::int4;
	END LOOP;
	PERFORM force('any', 'any');
END
$$;
SQL

my $node = PostgreSQL::Test::Cluster->new('differential');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
max_prepared_transactions = 5
autovacuum = off
max_parallel_workers_per_gather = 0
jit = off
fsync = off
CONF
$node->start;
$node->safe_psql('postgres', $functions);

my ($tried, $scanned, $number) = (0, 0, 0);
for (my $left = $queries; $left > 0; $left -= $per_table)
{
	my $table_seed = $seed + $number++;
	# Neighbouring seeds make neighbouring numbers at first.
	srand($table_seed * 2654435761 % 2**32);
	my ($name, $script) = table_script();
	my ($stdout, $stderr) = ('', '');
	my $status = $node->psql('postgres', $script, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1,
		extra_params => [ '--quiet', '--no-align', '--tuples-only' ]);
	while ($stdout =~ /^(\d+)\|(\d+)\|/mg)
	{
		$tried += $1;
		$scanned += $2;
	}
	my @problems = $stdout =~ /^(PROBLEM.*\n.*)/mg;
	my $good = ok($status == 0 && !@problems, "SEED=$table_seed: $name");
	if (!$good)
	{
		my $file = "differential-$table_seed.sql";
		append_to_file("${PostgreSQL::Test::Utils::log_path}/$file", "$functions$script");
		diag("exit status $status\n$stderr") if $status != 0;
		diag($_) for @problems[ 0 .. ($#problems > 4 ? 4 : $#problems) ];
		diag("repeat with SEED=$table_seed QUERIES=$per_table; statements: $file beside the server's log");
		$node->psql('postgres', "ROLLBACK PREPARED 'hold'");
		last if !$node->poll_query_until('postgres', 'SELECT true');
	}
}
# Otherwise sequential scans would agree with themselves.
cmp_ok($scanned, '>', 0.6 * $tried, "$scanned of $tried plans scanned the index");

$node->stop;
done_testing();
