# pg_upgrade takes the files of omen's indexes to the next PostgreSQL as they are:
# byte for byte the same, sound, with the same answers, and fit for changes. The
# first upgrade copies the files, those that follow link them.
#
# OMEN_INSTALLATIONS: the PostgreSQLs, from old to new, with the extension.
use strict;
use warnings;

use Digest::SHA;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use Omen::Extension;
use Omen::Kinds;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @installations = split ' ', $ENV{OMEN_INSTALLATIONS} // '';
die 'nothing to upgrade' if @installations < 2;

# PostgreSQL 18 has checksums by default, and both clusters must have them or not.
sub new_cluster
{
	my ($name, $installation) = @_;
	return new_node($name, install_path => $installation, conf => "autovacuum = off\n",
		extra => [ '--data-checksums', '--no-locale', '--encoding=UTF8' ]);
}

# The digests of the files of all indexes of a stopped server, by index.
sub digests
{
	my ($node, $files) = @_;
	my %digests;
	foreach my $index (keys %$files)
	{
		my $path = $node->data_dir . "/$files->{$index}";
		# A missing file has no digest.
		$digests{$index} = -e $path ? join ' ', map { Digest::SHA->new(256)->addfile($_)->hexdigest } sort glob "$path $path.*" : 'gone';
	}
	return \%digests;
}

# What pg_upgrade carries over was made by the old version's script.
my %scripts;
foreach my $installation (@installations)
{
	chomp(my $share = qx{$installation/bin/pg_config --sharedir});
	my $control = slurp_file("$share/extension/omendb_index.control");
	my ($version) = $control =~ /^default_version = '(.*)'/m;
	my @objects = script_objects(slurp_file("$share/extension/omendb_index--$version.sql"));
	$scripts{ join "\n", $control, @objects }++;
}
is_deeply([ values %scripts ], [ scalar @installations ], 'the extension has the same SQL everywhere');

my $old = new_cluster('first', $installations[0]);
$old->start;
create_kinds($old, 'kinds');
my $said = kinds_are_sound($old, 'kinds', 'original');
# Nothing is done to this one before the last version.
$old->safe_psql('postgres', 'CREATE DATABASE quiet TEMPLATE kinds');
isnt($old->safe_psql('kinds', q{
		SELECT sum(delta_entries) FROM pg_class c JOIN pg_am am ON am.oid = c.relam, method.omen_stats(c.oid)
		WHERE amname = 'omen' AND relkind = 'i'}), '0', 'original: there are entries that are not folded');
my $quiet = {%$said};

my $hop = 0;
foreach my $installation (@installations[ 1 .. $#installations ])
{
	my $mode = $hop++ ? '--link' : '--copy';
	my $new = new_cluster("next$hop", $installation);
	my $name = $old->pg_version . ' to ' . $new->pg_version . " $mode";
	my %files = map { $_ => index_files($old, $_) } qw(kinds quiet);
	my $definitions = index_definitions($old, 'kinds');
	$old->stop;
	my %before = map { $_ => digests($old, $files{$_}) } keys %files;
	cmp_ok(keys %{ $before{kinds} }, '>', 50, "$name: there are indexes");

	# It writes files into the folder that it is started in.
	chdir $new->basedir or die;
	my @upgrade = ("$installation/bin/pg_upgrade", '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir,
		'-b', "$installations[$hop - 1]/bin", '-B', "$installation/bin", '-s', $new->host,
		'-p', $old->port, '-P', $new->port);
	# Before version 17 copying cannot be asked for.
	push @upgrade, $mode unless $mode eq '--copy' && $new->pg_version < 17;
	$new->command_ok(\@upgrade, "$name: upgraded");
	die 'see the log' unless (Test::More->builder->summary)[-1];

	foreach my $database (sort keys %files)
	{
		is_deeply([ name_differences($before{$database}, digests($new, $files{$database})) ], [],
			"$name: the files of $database are the same");
	}
	$new->start;
	foreach my $database (sort keys %files)
	{
		is_deeply([ name_differences($files{$database}, index_files($new, $database)) ], [],
			"$name: the indexes of $database have those files");
	}
	is_deeply([ name_differences($definitions, index_definitions($new, 'kinds')) ], [], "$name: the indexes are the same");

	# The extension is what a new one would be.
	$new->safe_psql('postgres', "CREATE DATABASE fresh$hop");
	$new->safe_psql("fresh$hop", 'CREATE SCHEMA method; CREATE EXTENSION omendb_index SCHEMA method;
		GRANT EXECUTE ON FUNCTION method.omen_index_check TO keeper');
	is_deeply([ contents_differences([ extension_contents($new, 'kinds') ], [ extension_contents($new, "fresh$hop") ]) ], [],
		"$name: so is the extension");

	kinds_are_sound($new, 'kinds', $name, before => $said);
	change_kinds($new, 'kinds', $hop);
	kinds_are_sound($new, 'kinds', "$name, changed");
	crash($new);
	kinds_are_sound($new, 'kinds', "$name, after a crash");
	is($new->safe_psql('kinds', 'SELECT count(*) FROM scratch'), '0', "$name: the unlogged table is empty after it");
	# The model is trained, pages are split and freed.
	change_kinds($new, 'kinds', $hop + 10);
	change_kinds($new, 'kinds', $hop + 20);
	$new->safe_psql('kinds', 'REINDEX INDEX k_int8_a; REINDEX INDEX CONCURRENTLY big_t; CLUSTER big');
	$said = kinds_are_sound($new, 'kinds', "$name, changed again");
	log_is_clean($new, $name);
	$old = $new;
}
# Unlogged tables did not survive the crashes.
delete $quiet->{scratch_k};
my $still = kinds_are_sound($old, 'quiet', 'never read');
delete $still->{scratch_k};
is_deeply([ name_differences($quiet, $still) ], [], 'never read: the same answers as ever');

# What has been compared would have been found different if it were.
my $files = index_files($old, 'quiet');
$old->stop;
my $before = digests($old, $files);
$old->start;
$old->safe_psql('quiet', 'REINDEX INDEX k_oid_b; INSERT INTO owned VALUES (0, 0)');
is_deeply([ name_differences($files, index_files($old, 'quiet')) ], ['k_oid_b'], 'an index that is built anew would be found');
$old->stop;
is_deeply([ name_differences($before, digests($old, $files)) ], [qw(k_oid_b owned_k)], 'and one that is changed');
$old->start;
# A row that its index is not told of.
$old->safe_psql('quiet', $_) for q{
SET allow_system_table_mods = on;
UPDATE pg_index SET indisready = false, indislive = false WHERE indexrelid = 'k_date_c'::regclass},
  q{INSERT INTO k_date (a) VALUES ('2030-01-01')}, q{
SET allow_system_table_mods = on;
UPDATE pg_index SET indisready = true, indislive = true WHERE indexrelid = 'k_date_c'::regclass};
like($old->safe_psql('quiet', 'SELECT index, fault FROM method.omen_check_all(true, true) WHERE fault IS NOT NULL'),
	qr/\Ak_date_c\|[^\n]+\z/, 'and a row without an entry');
is($old->safe_psql('quiet', q{
		WITH said AS MATERIALIZED (SELECT * FROM answers())
		SELECT string_agg(name, ' ') FROM said a JOIN said b USING (name)
		WHERE a.way = 'forward' AND b.way = 'sequential' AND a.digest <> b.digest}), 'k_date_c', 'also by the answers');
$old->stop;
done_testing();
