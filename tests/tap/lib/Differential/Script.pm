# Random tables of the differential test, and what happens to them: a script is a
# list of statements.
package Differential::Script;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';

use Differential::Queries;
use Differential::Values;

our @EXPORT = qw(new_script);

# A table t, with the column k and its twin kb, and what it is joined with: u.
sub random_table
{
	my ($major) = @_;
	my $type = pick(sort keys %types);
	my $distribution = pick(qw(serial jitter random random few clusters squares));
	my $parts = chance(0.15) ? pick('HASH (id)', 'RANGE (v)') : '';
	return {
		major => $major,
		type => $type,
		partner => chance(0.6) ? $type : partner_type($type),
		partner_rows => $distribution eq 'few' ? 20 : pick(20, 200, 400),
		distribution => $distribution,
		span => pick(1, 7, 100, 1000, 1000000, 4000000000, 90000000000),
		order => pick('ASC', 'DESC') . ' NULLS ' . pick('FIRST', 'LAST'),
		nulls => pick(0, 0, 10, 100, 900),
		specials => pick(0, 10, 100),
		salt => up_to(100),
		partial => chance(0.1),
		expression => chance(0.1),
		parts => $parts,
		unique => $parts !~ /RANGE/ && chance(0.5),
		last => pick(0, 1, 100, 1000, 3000, 10000, 20000),
		held => 0 };
}

# What t is made of: the table itself, or its partitions and it.
sub relations { return $_[0]{parts} ? qw(t1 t2 t3 t) : 't'; }

sub create
{
	my ($table) = @_;
	my ($type, $parts) = @{$table}{qw(type parts)};
	my $unique = $table->{unique} ? ', PRIMARY KEY (id)' : '';
	my $columns = "k $type, v int4 NOT NULL, filler text, kb $type GENERATED ALWAYS AS (k) STORED";
	my @create = ("CREATE SEQUENCE ids START 2000000000;",
		"CREATE TABLE t (id int8, $columns$unique) " . ($parts ? "PARTITION BY $parts" : 'WITH (autovacuum_enabled = off)') . ';',
		"CREATE TABLE u (id int8, k $table->{partner}, kb $table->{partner} GENERATED ALWAYS AS (k) STORED) WITH (autovacuum_enabled = off);");
	my %values = $parts =~ /HASH/ ? map { ("t$_" => 'WITH (modulus 3, remainder ' . ($_ - 1) . ')') } 1 .. 3
	  : (t1 => 'FROM (MINVALUE) TO (2)', t2 => 'FROM (2) TO (4)', t3 => 'FROM (4) TO (MAXVALUE)');
	push @create, map { "CREATE TABLE $_ PARTITION OF t FOR VALUES $values{$_} WITH (autovacuum_enabled = off);" } qw(t1 t2 t3) if $parts;
	return @create;
}

sub create_indexes
{
	my ($table) = @_;
	my $options = sprintf('WITH (fillfactor = %d, model = %s)', pick(10, 50, 70, 90, 90, 100), pick(qw(auto linear rmi pla)));
	my $where = $table->{partial} ? ' WHERE v > 0' : '';
	my @create;
	foreach my $relation (relations($table))
	{
		foreach my $index ([ 'omen', 'k', $options ], [ 'btree', 'kb', '' ])
		{
			my ($method, $column, $with) = @{$index};
			my $key = $table->{expression} ? "(CASE WHEN id % 7 = 0 THEN NULL ELSE $column END)" : $column;
			push @create, "CREATE INDEX ${method}_$relation ON $relation USING $method ($key $table->{order}) $with$where;";
		}
	}
	my $partner = '(k ' . ($table->{order} =~ /DESC/ ? 'DESC' : 'ASC') . ')';
	push @create, "CREATE INDEX omen_u ON u USING omen $partner;", 'CREATE INDEX btree_u ON u USING btree ' . ($partner =~ s/k/kb/r) . ';';
	return @create;
}

sub insert
{
	my ($table, $first, $last, $row) = @_;
	return 'INSERT INTO t (id, k, v, filler) SELECT g, ' . key($table, $row) . ", g % 5, repeat('x', (g % 90)::int4) FROM generate_series($first, $last) g";
}

# Rows from COPY: values that read the same as text.
sub copy
{
	my ($table) = @_;
	my @keys = (@{ $types{ $table->{type} }{special} }, '\N');
	my @lines = map { join("\t", ++$table->{last}, pick(@keys), up_to(4), 'copied') } 1 .. pick(1, 3, 40);
	return join("\n", 'COPY t (id, k, v, filler) FROM stdin;', @lines, '\.');
}

# One statement that changes t, the same with any plan.
sub change
{
	my ($table) = @_;
	my $kind = rand();
	my ($first, $many) = ($table->{last} + 1, pick(1, 1, 30, 300, 300, 3000));
	if ($kind < 0.45)
	{
		$table->{last} += $many;
		return "INSERT INTO t (id, k, v, filler) VALUES ($first, " . key($table, "${first}::int8") . ', ' . up_to(4) . ", 'single')" if $many == 1;
		# New keys, or keys that are there already.
		my $row = chance(0.6) ? 'g::int8' : "(abs(hashint8extended(g, $first)) % $first + 1)";
		return insert($table, $first, $table->{last}, $row) if !$table->{unique} || chance(0.5);
		my $old = $first - up_to($first - 1);
		return insert($table, $old, $old + $many - 1, $row) . ' ON CONFLICT (id) DO '
		  . pick('NOTHING', 'UPDATE SET k = excluded.k', 'UPDATE SET v = t.v + 1', 'UPDATE SET k = excluded.k WHERE t.v > 1');
	}
	my $modulus = pick(2, 3, 7, 50, 1000);
	my $some = "abs(hashint8extended(id, $first)) % $modulus = 0 AND id < $OWN";
	return "UPDATE t SET v = v + 1 WHERE $some" if $kind < 0.57;
	return 'UPDATE t SET k = ' . key($table, '(id + ' . up_to(50) . ')') . " WHERE $some" if $kind < 0.75;
	return "DELETE FROM t WHERE $some" if $kind < 0.9;
	return sprintf('DELETE FROM t WHERE id BETWEEN %d AND %d', up_to($table->{last}), up_to($table->{last})) if $kind < 0.98;
	return "DELETE FROM t WHERE id < $OWN";
}

# A statement that finds its rows by the key, in all ways.
sub change_by_key
{
	my ($table) = @_;
	my ($a, $b, $c) = map { column($table, $_) } qw(a b c);
	my $if_a = ($table->{partial} ? 'AND a.v > 0 ' : '') . "AND a.id < $OWN";
	my $where = conditions($table, 'a') . " AND a.id < $OWN";
	my $key = key($table, '(a.id + ' . (1 + up_to(50)) . ')');
	my $kind = rand();
	my $end = 'SELECT b.id FROM t b WHERE ' . conditions($table, 'b', 1) . " AND b.id < $OWN ORDER BY $b " . pick('ASC', 'DESC') . ', b.id LIMIT ' . pick(1, 5, 100);
	my $first = "SELECT $b FROM t b WHERE " . conditions($table, 'b', 1) . " ORDER BY $b " . pick('ASC', 'DESC') . ' LIMIT 1';
	my $text =
	    $kind < 0.2 ? "UPDATE t a SET v = v + 1 WHERE $where"
	  : $kind < 0.35 ? "UPDATE t a SET k = $key WHERE $where"
	  : $kind < 0.5 ? "DELETE FROM t a WHERE $where"
	  : $kind < 0.6 ? "DELETE FROM t a WHERE a.id IN ($end)"
	  : $kind < 0.7 ? "UPDATE t a SET k = $key WHERE $a = ($first) $if_a"
	  : $kind < 0.77 ? "UPDATE t a SET v = a.v + 1 FROM u c WHERE $a = $c $if_a AND c.id % 3 = 0"
	  : $kind < 0.84 ? "DELETE FROM t a USING u c WHERE $a = $c $if_a AND c.id % 7 = 0"
	  : $kind < 0.9 || $table->{major} < 15 ? "DELETE FROM t a WHERE EXISTS (SELECT FROM u c WHERE $c = $a AND c.id % 5 = 0) $if_a"
	  : "MERGE INTO t a USING (SELECT DISTINCT %C FROM u) c ON $a = $c $if_a WHEN MATCHED AND a.v > 2 THEN DELETE WHEN MATCHED THEN UPDATE SET v = a.v + 1";
	return sprintf('SELECT * FROM compare_change(%s, %s);', quoted(plain($text)), "'" . pick(qw(any any nestloop mergejoin)) . "'");
}

sub change_partner
{
	my ($table) = @_;
	my $some = up_to(30);
	return "DELETE FROM u WHERE id % 31 = $some" if chance(0.3);
	return 'UPDATE u SET k = ' . key($table, "(id + $some)", $table->{partner}) . " WHERE id % 31 = $some" if chance(0.4);
	return 'INSERT INTO u (id, k) SELECT g, ' . key($table, "(g * $some)::int8", $table->{partner}) . ' FROM generate_series(' . ++$table->{partner_last} . ', ' . ($table->{partner_last} += 9) . ') g';
}

# A transaction with savepoints in savepoints, and questions on the way.
sub transaction
{
	my ($table) = @_;
	my @statements = 'BEGIN ISOLATION LEVEL REPEATABLE READ;';
	my @open;
	for (1 .. pick(3, 6, 12))
	{
		my $kind = rand();
		if ($kind < 0.35) { push @statements, change($table) . ';'; }
		elsif ($kind < 0.4) { push @statements, copy($table); }
		elsif ($kind < 0.45) { push @statements, change_by_key($table); }
		elsif ($kind < 0.48) { push @statements, change_partner($table) . ';'; }
		elsif ($kind < 0.5 && !$table->{held}) { push @statements, 'TRUNCATE t;' if chance(0.2); }
		elsif ($kind < 0.6) { push @statements, query($table); }
		elsif ($kind < 0.8 || !@open)
		{
			# A name may be taken again, and then hides the first.
			push @open, pick(qw(r s t));
			push @statements, "SAVEPOINT $open[-1];";
		}
		else
		{
			my $name = pick(@open);
			pop @open while $open[-1] ne $name;
			my $back = chance(0.65);
			push @statements, ($back ? 'ROLLBACK TO ' : 'RELEASE ') . "$name;";
			pop @open if !$back;
		}
	}
	push @statements, query($table) if chance(0.5);
	return (@statements, chance(0.7) ? 'COMMIT;' : 'ROLLBACK;');
}

# Changes, transactions, maintenance, and a transaction that stays open beside all
# of it, with rows of its own, and keeps VACUUM from removing anything.
sub step
{
	my ($table) = @_;
	my $kind = rand();
	return change($table) . ';' if $kind < 0.25;
	return copy($table) if $kind < 0.28;
	return ('BEGIN ISOLATION LEVEL REPEATABLE READ;', change_by_key($table), 'COMMIT;') if $kind < 0.36;
	return change_partner($table) . ';' if $kind < 0.4;
	# Where it may truncate the table it waits for the sessions beside it, for seconds.
	return 'VACUUM (INDEX_CLEANUP ON, TRUNCATE ' . (chance(0.1) ? 'ON' : 'OFF') . ') ' . pick('t', 't', 't', 'u') . ';' if $kind < 0.55;
	return transaction($table) if $kind < 0.88;
	if ($table->{held})
	{
		return () if chance(0.5);
		$table->{held} = 0;
		return pick('ROLLBACK', 'COMMIT') . " PREPARED 'held';";
	}
	if ($kind < 0.93)
	{
		$table->{held} = 1;
		my $first = $OWN + 1000 * ++$table->{holds};
		return ('BEGIN;', insert($table, $first, $first + 300, '(hashint8extended(g, 5) % 1000)') . ';',
			"UPDATE t SET k = NULL WHERE id = $first + 1;", "PREPARE TRANSACTION 'held';");
	}
	return 'REINDEX INDEX ' . pick('', 'CONCURRENTLY ') . 'omen_' . pick(relations($table), 'u') . ';' if $kind < 0.95 && !$table->{parts};
	return 'CLUSTER t USING omen_t;' if $kind < 0.96 && !$table->{parts} && !$table->{partial} && !$table->{expression};
	return 'ANALYZE t;' if $kind < 0.985;
	return 'TRUNCATE t;';
}

# What a session beside this one does with rows of its own, for pgbench.
sub writer
{
	my ($table) = @_;
	my $row = key($table, "(nextval('ids') * 7919 % 4000)");
	my $key = key($table, '(id * 31 % 4000)');
	# The last rows that it has added.
	my $some = 'id BETWEEN (SELECT last_value FROM ids) - :back AND (SELECT last_value FROM ids) - :back + :some';
	return "\\set back random(1, 2000)\n\\set some random(1, 60)\nBEGIN;\n"
	  . "INSERT INTO t (id, k, v, filler) SELECT nextval('ids'), $row, g % 5, 'beside' FROM generate_series(1, :some) g;\n"
	  . "SAVEPOINT s;\nUPDATE t SET k = $key WHERE $some AND id >= 2000000000;\n" . pick('ROLLBACK TO s', 'RELEASE s') . ";\n"
	  . "UPDATE t SET v = v + 1 WHERE $some AND id >= 2000000000;\n\\sleep 2 ms\n"
	  . "DELETE FROM t WHERE id BETWEEN 2000000000 AND (SELECT last_value FROM ids) - 2000;\n" . pick('COMMIT', 'COMMIT', 'ROLLBACK') . ";\n\\sleep 15 ms\n";
}

# A table and `questions` queries. Returns { name, create, statements, beside }:
# what makes the tables, what is done with them, and what pgbench shall do beside.
sub new_script
{
	my ($major, $questions) = @_;
	my $table = random_table($major);
	my $zone = pick(qw(UTC America/New_York Europe/Berlin Australia/Lord_Howe Asia/Kathmandu));
	my @create = create($table);
	my @settings = ("SET timezone = '$zone';", 'SET omen.router_memory = ' . pick('0', "'64kB'", "'4MB'", "'4MB'") . ';');
	$table->{partner_last} = $table->{partner_rows};
	my @fill = (insert($table, 1, $table->{last}, 'g::int8') . ';',
		'INSERT INTO u (id, k) SELECT g, ' . key($table, '(g * ' . (1 + int($table->{last} / 200)) . ')::int8', $table->{partner}) . " FROM generate_series(1, $table->{partner_rows}) g;");
	my @index = create_indexes($table);
	my @statements = (@settings, chance(0.7) ? (@fill, @index) : (@index, @fill));
	push @statements, 'VACUUM (ANALYZE, TRUNCATE OFF) t;', 'VACUUM ANALYZE u;' if chance(0.7);
	my $writer = writer($table);
	for (my $asked = 0; $asked < $questions;)
	{
		push @statements, step($table);
		for (1 .. pick(2, 5, 8))
		{
			# t may have rows of a transaction that is open, which no TRUNCATE may wait for.
			my $change = chance(0.6) ? change($table) : '';
			push @statements, 'BEGIN ISOLATION LEVEL REPEATABLE READ;',
			  chance(0.12) ? (walk($table, $change), 'ROLLBACK;') : (query($table), 'COMMIT;');
			$asked++;
		}
	}
	push @statements, "SELECT 'asked:check', E'\\nPROBLEM check: ' || fault FROM omen_check_all(true) WHERE fault IS NOT NULL;";
	push @statements, "ROLLBACK PREPARED 'held';" if $table->{held};
	my $name = join(', ', "$table->{type} $table->{order}", "$table->{distribution} $table->{span}", "$table->{last} ids",
		$table->{partial} ? 'partial' : (), $table->{expression} ? 'expression' : (), $table->{parts} ? "by $table->{parts}" : (), $table->{unique} ? 'unique' : ());
	return { name => $name, create => \@create, statements => \@statements, beside => $writer };
}

1;
