# ALTER EXTENSION UPDATE: from each released version one comes to what the
# present version creates, and the SQL of a released version does not change.
#
# sql/released has the install script of each version as it was released (`make
# release-sql`), sql/omendb_index--OLD--NEW.sql what leads to the next one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use File::Basename;
use Omen;
use Omen::Extension;
use Omen::Kinds;
use PostgreSQL::Test::Utils;
use Test::More;

my $sources = "$FindBin::RealBin/../../sql";
my ($install_path, $scripts) = copy_installation(PostgreSQL::Test::Utils::tempdir());
my ($present) = slurp_file("$scripts/omendb_index.control") =~ /^default_version = '(.*)'/m;
my $installed = slurp_file("$scripts/omendb_index--$present.sql");

# The released versions' scripts by version; they replace what is installed.
my %released = map { /omendb_index--(.+)\.sql$/ ? ($1 => slurp_file($_)) : () } glob "$sources/released/*.sql";
cmp_ok(keys %released, '>', 0, 'there are released versions');

# What is wrong with the present version's SQL.
sub differences_of_scripts
{
	my ($released, $generated) = @_;
	return contents_differences([ script_objects($generated) ], [ script_objects($released) ]);
}
if (exists $released{$present})
{
	my @wrong = differences_of_scripts($released{$present}, $installed);
	is_deeply(\@wrong, [], "the SQL of version $present is as it was released")
	  or diag("Raise the version in Cargo.toml, and write sql/omendb_index--$present--NEW.sql.");
}
cmp_ok(scalar script_objects($installed), '>', 3, 'the script consists of objects');
ok(!differences_of_scripts($installed, "-- A comment\n\n" . join "\n/* <begin connected objects> */\n", reverse '',
		split m{^/\* <begin connected objects> \*/$}m, $installed),
	'its order and comments do not matter');
foreach my $change ([ 'REVOKE EXECUTE', 'GRANT EXECUTE' ], [ '    OPERATOR 3 pg_catalog.=,', '' ], [ 'fault := NULL;', '' ])
{
	my ($from, $to) = @$change;
	my $altered = $installed;
	$altered =~ s/\Q$from\E/$to/ or die "there is no $from";
	ok(differences_of_scripts($installed, $altered), "a change of \"$from\" does");
}

foreach my $script (glob "$sources/omendb_index--*--*.sql")
{
	my $name = basename($script);
	is(-e "$scripts/$name" ? slurp_file("$scripts/$name") : undef, slurp_file($script), "$name is installed");
}
write_file("$scripts/omendb_index--$_.sql", $released{$_}) for grep { $_ ne $present } keys %released;

my $node = new_node('update', install_path => $install_path, conf => "autovacuum = off\n");
$node->start;

my $databases = 0;

# What is different after an update from what the new version creates. With
# indexes => a name, the old version's indexes are tested under it.
sub differences_of_update
{
	my ($old, $new, %options) = @_;
	my ($updated, $fresh) = map { $_ . ++$databases } qw(updated fresh);
	if ($options{indexes}) { create_kinds($node, $updated, version => $old) }
	else { $node->safe_psql('postgres', "CREATE DATABASE $updated") }
	$node->safe_psql('postgres', "CREATE DATABASE $fresh");
	$node->safe_psql($updated, "CREATE SCHEMA method; CREATE EXTENSION omendb_index SCHEMA method VERSION '$old'")
	  unless $options{indexes};
	$node->safe_psql($fresh, "CREATE SCHEMA method; CREATE EXTENSION omendb_index SCHEMA method VERSION '$new'");
	$node->safe_psql($updated, "ALTER EXTENSION omendb_index UPDATE TO '$new'");
	if ($options{indexes})
	{
		my $before = kinds_are_sound($node, $updated, "$options{indexes}: updated");
		change_kinds($node, $updated, 1);
		kinds_are_sound($node, $updated, "$options{indexes}: changed");
		$node->safe_psql($updated, "REINDEX DATABASE $updated");
		kinds_are_sound($node, $updated, "$options{indexes}: built anew");
		# What an administrator has granted is not the extension's.
		$node->safe_psql($updated, 'REVOKE EXECUTE ON FUNCTION method.omen_index_check FROM keeper');
	}
	return contents_differences([ extension_contents($node, $updated) ], [ extension_contents($node, $fresh) ]);
}

foreach my $old (sort grep { $_ ne $present } keys %released)
{
	my $path = $node->safe_psql('postgres',
		"SELECT path FROM pg_extension_update_paths('omendb_index') WHERE source = '$old' AND target = '$present'");
	isnt($path, '', "there is a way from $old to $present") or next;
	my @wrong = differences_of_update($old, $present, indexes => "$old to $present");
	is_deeply(\@wrong, [], "$old to $present: as if created") or diag(join "\n", @wrong);
}

# A version that follows, with something new of each kind, as its install script
# and its update script have it.
my $next = 'next';
my %additions = (
	function => q{
CREATE FUNCTION omen_new(index regclass) RETURNS int LANGUAGE sql STRICT AS 'SELECT 1';},
	comment => q{
COMMENT ON FUNCTION omen_new(regclass) IS 'what is new';},
	revocation => q{
REVOKE EXECUTE ON FUNCTION omen_new(regclass) FROM PUBLIC;},
	grant => q{
GRANT EXECUTE ON FUNCTION omen_new(regclass) TO pg_monitor;},
	class => q{
CREATE OPERATOR CLASS char_ops DEFAULT FOR TYPE pg_catalog."char" USING omen AS
	OPERATOR 1 pg_catalog.<, OPERATOR 2 pg_catalog.<=, OPERATOR 3 pg_catalog.=, OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>, FUNCTION 1 pg_catalog.btcharcmp(pg_catalog."char", pg_catalog."char");},
	member => q{
ALTER OPERATOR FAMILY uuid_ops USING omen ADD OPERATOR 1 pg_catalog.< (pg_catalog.int2, pg_catalog.int2);});
my @order = qw(function comment revocation grant class member);

# The body of a function that is there already.
my $body = sub { return $_[0] =~ s/fault := NULL;/fault := NULL; -- no fault yet/r };
my ($replacement) = $installed =~ /(CREATE FUNCTION omen_check_all.*?^\$\$;)/ms or die 'no omen_check_all';
$additions{replacement} = $body->($replacement =~ s/^CREATE FUNCTION/CREATE OR REPLACE FUNCTION/r);
# Something that the next version no longer has.
my $dropped = 'omen_stats';
$additions{drop} = "DROP FUNCTION $dropped(regclass);\n";
my $new_script = $body->($installed) . join '', map { $additions{$_} } @order;
$new_script .= $additions{drop};

# An update that has all but one of them, to a version of its own.
sub plant
{
	my ($version, $forgotten) = @_;
	write_file("$scripts/omendb_index--$version.sql", $new_script);
	# Without the function there is nothing to say of it.
	my %left = map { $_ => 1 } $forgotten eq 'function' ? qw(function comment revocation grant) : $forgotten;
	write_file("$scripts/omendb_index--$present--$version.sql",
		join "\n", map { $additions{$_} } grep { !$left{$_} } @order, 'replacement', 'drop');
	return;
}

plant($next, 'nothing');
my @wrong = differences_of_update($present, $next, indexes => 'a synthetic version');
is_deeply(\@wrong, [], 'a synthetic version: as if created') or diag(join "\n", @wrong);

# What the comparison says of an update that forgets something.
my %found_by = (
	function => qr/^missing: function method\.omen_new\(regclass\)$/m,
	comment => qr/^missing: function method\.omen_new\(regclass\) comment what is new$/m,
	revocation => qr/^too much: function method\.omen_new\(regclass\) privileges - EXECUTE/m,
	grant => qr/^missing: function method\.omen_new\(regclass\) privileges pg_monitor EXECUTE/m,
	class => qr/^missing: operator class method\.char_ops for access method omen$/m,
	member => qr/^missing: operator family method\.uuid_ops for access method omen operator 1 \(smallint, smallint\)/m,
	replacement => qr/^missing: .*no fault yet$/m,
	drop => qr/^too much: function method\.omen_stats\(regclass\)$/m);
foreach my $forgotten (@order, 'replacement', 'drop')
{
	plant("without-$forgotten", $forgotten);
	like(join("\n", differences_of_update($present, "without-$forgotten")), $found_by{$forgotten},
		"an update that forgets the $forgotten is found");
}

# A version that nothing leads to.
write_file("$scripts/omendb_index--island.sql", $installed);
$node->safe_psql('postgres', 'CREATE EXTENSION omendb_index');
my ($rc, $out, $err) = $node->psql('postgres', "ALTER EXTENSION omendb_index UPDATE TO 'island'");
like($err, qr/has no update path from version "\Q$present\E" to version "island"/, 'an update without a script is refused');
is($node->safe_psql('postgres',
		"SELECT count(path) FROM pg_extension_update_paths('omendb_index') WHERE source = '$present' AND target = 'island'"),
	'0', 'and there is no way to it');

# A function of an older version that the library no longer has.
write_file("$scripts/omendb_index--gone.sql", $installed =~ s/'omen_stats_wrapper'/'omen_gone_wrapper'/r);
$node->safe_psql('postgres', 'CREATE DATABASE gone');
($rc, $out, $err) = $node->psql('gone', "CREATE EXTENSION omendb_index VERSION 'gone'");
like($err, qr/could not find function "omen_gone_wrapper"/, 'so is a version whose functions are not in the library');

$node->stop;
log_is_clean($node, 'update');
done_testing();
