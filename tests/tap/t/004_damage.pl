# Damaged index files. Every query gives the right rows or says that the index
# is damaged; the server stays up, and REINDEX repairs. A damaged model costs a
# WARNING and nothing else.
#
# Each damage has a table of its own; all are done to the files of one stopped
# server. SEED=n repeats a run's random bytes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Omen;
use OmenPages;
use PostgreSQL::Test::Utils;
use Test::More;

# Fields of a leaf or inner page of one lane, see core/src/page/leaf.rs.
use constant { FENCE => 16, LOW => 24, HIGH => 40, COUNTS => 56, DIRECTORY => 68 };

sub patch { my ($pages, $block, $at, $bytes) = @_; substr($pages->[$block], $at, length $bytes) = $bytes; return; }
# A leaf from the middle of the chain.
sub a_leaf { my ($pages) = @_; my @leaves = blocks_of($pages, LEAF); return $leaves[ @leaves / 2 ]; }
sub root { my ($pages) = @_; return unpack 'V', substr($pages->[0], 24 + 8, 4); }
sub zero { my ($pages, $block) = @_; $pages->[$block] = "\0" x PAGE; return; }
sub swap { my ($pages, $a, $b) = @_; @$pages[ $a, $b ] = @$pages[ $b, $a ]; return; }

my $foreign;

# What is done to the pages, by name. A name that begins with "model" must not
# cost any answer.
my %damages = (
	'meta: zeroed' => sub { zero($_[0], 0) },
	'meta: future version of the page' => sub { patch($_[0], 0, SPECIAL + 19, chr 2) },
	'meta: future version of the format' => sub { patch($_[0], 0, 24, pack 'V', 9) },
	'meta: another magic' => sub { patch($_[0], 0, SPECIAL + 20, 'NEMO') },
	'meta: root beyond the end' => sub { patch($_[0], 0, 32, pack 'V', 1_000_000) },
	'meta: root is a leaf' => sub { patch($_[0], 0, 32, pack 'V', a_leaf($_[0])) },
	'meta: root is block 0' => sub { patch($_[0], 0, 32, pack 'V', 0) },
	'meta: another root level' => sub { patch($_[0], 0, 31, chr 7) },
	'meta: root level 0' => sub { patch($_[0], 0, 31, chr 0) },
	'meta: another key type' => sub { patch($_[0], 0, 28, chr 250) },
	'meta: two lanes' => sub { patch($_[0], 0, 30, chr 2) },
	'meta: first leaf is another' => sub { patch($_[0], 0, 36, pack 'V', a_leaf($_[0])) },
	'meta: swapped with a leaf' => sub { swap($_[0], 0, a_leaf($_[0])) },
	'leaf: zeroed' => sub { zero($_[0], a_leaf($_[0])) },
	'leaf: all zeroed' => sub { zero($_[0], $_) for blocks_of($_[0], LEAF) },
	'leaf: first zeroed' => sub { zero($_[0], (blocks_of($_[0], LEAF))[0]) },
	'leaf: last zeroed' => sub { zero($_[0], (blocks_of($_[0], LEAF))[-1]) },
	'leaf: two swapped' => sub { my $b = a_leaf($_[0]); swap($_[0], $b, $b + 1) },
	'leaf: all in another order' => sub {
		my @leaves = blocks_of($_[0], LEAF);
		@{ $_[0] }[@leaves] = @{ $_[0] }[ reverse @leaves ];
	},
	'leaf: copied over another' => sub { my $b = a_leaf($_[0]); $_[0][ $b + 1 ] = $_[0][$b] },
	'leaf: of another index' => sub { my $b = a_leaf($_[0]); $_[0][$b] = $foreign->[$b] },
	'leaf: random bytes' => sub { $_[0][ a_leaf($_[0]) ] = join '', map { chr rand 256 } 1 .. PAGE },
	'leaf: random contents' => sub {
		patch($_[0], a_leaf($_[0]), 24, join '', map { chr rand 256 } 1 .. SPECIAL - 24);
	},
	'leaf: future version' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 19, chr 2) },
	'leaf: called free' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 16, chr FREE) },
	'leaf: called inner' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 16, chr(INNER) . chr(1)) },
	'leaf: called model' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 16, chr MODEL) },
	'leaf: unknown kind' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 16, chr 77) },
	'leaf: right link to itself' => sub { my $b = a_leaf($_[0]); patch($_[0], $b, SPECIAL + 4, pack 'V', $b) },
	'leaf: right link to the first' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 4, pack 'V', 1) },
	'leaf: right link beyond the end' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 4, pack 'V', 1_000_000) },
	'leaf: no right link' => sub { patch($_[0], a_leaf($_[0]), SPECIAL + 4, pack 'V', 0xffffffff) },
	'leaf: left link to itself' => sub { my $b = a_leaf($_[0]); patch($_[0], $b, SPECIAL, pack 'V', $b) },
	'leaf: called the last' => sub {
		my $b = a_leaf($_[0]);
		patch($_[0], $b, SPECIAL + 18, chr(2 | ord substr $_[0][$b], SPECIAL + 18, 1));
	},
	'leaf: called half split' => sub {
		my $b = a_leaf($_[0]);
		patch($_[0], $b, SPECIAL + 18, chr(1 | ord substr $_[0][$b], SPECIAL + 18, 1));
	},
	'leaf: fences crossed' => sub {
		my $b = a_leaf($_[0]);
		my $fences = substr $_[0][$b], LOW, 2 * FENCE;
		patch($_[0], $b, LOW, substr($fences, FENCE) . substr($fences, 0, FENCE));
	},
	'leaf: fences of all the world' => sub {
		patch($_[0], a_leaf($_[0]), LOW, "\0" x FENCE . "\xff" x FENCE);
	},
	'leaf: low fence lowered' => sub { patch($_[0], a_leaf($_[0]), LOW, "\0" x FENCE) },
	'leaf: high fence raised' => sub { patch($_[0], a_leaf($_[0]), HIGH, "\xff" x FENCE) },
	'leaf: high fence lowered' => sub {
		my $b = a_leaf($_[0]);
		patch($_[0], $b, HIGH, substr $_[0][$b], LOW, FENCE);
	},
	'leaf: low fence raised' => sub {
		my $b = a_leaf($_[0]);
		patch($_[0], $b, LOW, substr $_[0][$b], HIGH, FENCE);
	},
	'leaf: counts' => sub { patch($_[0], a_leaf($_[0]), COUNTS, "\xff\x7f" x 6) },
	'leaf: directory' => sub { patch($_[0], a_leaf($_[0]), DIRECTORY + FENCE, "\xff\xff" x 2) },
	'leaf: directory points at itself' => sub { patch($_[0], a_leaf($_[0]), DIRECTORY + FENCE, pack 'v2', DIRECTORY, 100) },
	'leaf: bounds of the contents' => sub { patch($_[0], a_leaf($_[0]), 12, pack 'v', 8100) },
	'inner: zeroed' => sub { zero($_[0], root($_[0])) },
	'inner: swapped with a leaf' => sub { swap($_[0], root($_[0]), a_leaf($_[0])) },
	'inner: of another index' => sub { $_[0][ root($_[0]) ] = $foreign->[ root($foreign) ] },
	'inner: future version' => sub { patch($_[0], root($_[0]), SPECIAL + 19, chr 2) },
	'inner: another level' => sub { patch($_[0], root($_[0]), SPECIAL + 17, chr 3) },
	'inner: random contents' => sub {
		patch($_[0], root($_[0]), 24, join '', map { chr rand 256 } 1 .. SPECIAL - 24);
	},
	'inner: counts' => sub { patch($_[0], root($_[0]), COUNTS + 6, pack 'v', 40) },
	'inner: directory' => sub { patch($_[0], root($_[0]), DIRECTORY + FENCE, "\xff\xff" x 2) },
	'inner: low fence raised' => sub {
		patch($_[0], root($_[0]), LOW, substr $_[0][ a_leaf($_[0]) ], LOW, FENCE);
	},
	'inner: right link to itself' => sub { my $b = root($_[0]); patch($_[0], $b, SPECIAL + 4, pack 'V', $b) },
	'file: truncated' => sub { splice @{ $_[0] }, a_leaf($_[0]) },
	'file: one page' => sub { splice @{ $_[0] }, 1 },
	'file: empty' => sub { splice @{ $_[0] }, 0 },
	'model: zeroed' => sub { zero($_[0], $_) for blocks_of($_[0], MODEL) },
	'model: bytes flipped' => sub {
		my ($b) = blocks_of($_[0], MODEL);
		patch($_[0], $b, 60, ~substr $_[0][$b], 60, 8);
	},
	'model: future version of the blob' => sub { patch($_[0], (blocks_of($_[0], MODEL))[0], 32, "\xff" x 4) },
	'model: another chain' => sub { patch($_[0], (blocks_of($_[0], MODEL))[0], 24, pack 'V', 99) },
	'model: another place in the chain' => sub { patch($_[0], (blocks_of($_[0], MODEL))[0], 28, pack 'V', 5) },
	'model: link to itself' => sub {
		my ($b) = blocks_of($_[0], MODEL);
		patch($_[0], $b, SPECIAL + 4, pack 'V', $b);
	},
	'model: chain begins at a leaf' => sub { patch($_[0], 0, 40, pack 'V', a_leaf($_[0])) },
	'model: chain begins beyond the end' => sub { patch($_[0], 0, 40, pack 'V', 1_000_000) },
	'model: chain begins at the root' => sub { patch($_[0], 0, 40, pack 'V', root($_[0])) },
	'model: another length' => sub { patch($_[0], 0, 48, pack 'V', 0x7fffffff) },
	'model: length 0' => sub { patch($_[0], 0, 48, pack 'V', 0) },
);

# What omen_index_check does not see beside writers: a split may be half done, and
# the end of a chain of one page is known by its length.
my %unseen = map { $_ => 1 } 'leaf: called half split', 'model: link to itself';

# Bytes flipped anywhere: without page checksums a wrong key may look right, but
# the server must not crash or hang.
my $flips = 12;

# PostgreSQL 18 has checksums by default.
my $node = start_node('damage', no_data_checksums => 1, conf => "autovacuum = off\nmax_wal_size = 1GB\n");
srand(my $seed = $ENV{SEED} // time);
note("SEED=$seed");
my @names = sort keys %damages;
my @tables = map { "d$_" } 0 .. $#names;
my @flipped = map { "f$_" } 1 .. $flips;
$node->safe_psql('postgres', join '', map { qq{
CREATE TABLE $_ (k int8);
INSERT INTO $_ SELECT hashint8extended(i, 0) >> 12 FROM generate_series(1, 4000) i;
CREATE INDEX ${_}_k ON $_ USING omen (k) WITH (fillfactor = 30);
} } @tables, @flipped);
$node->safe_psql('postgres', q{
CREATE TABLE other (k int8);
INSERT INTO other SELECT hashint8extended(i, 7) >> 13 FROM generate_series(1, 4000) i;
CREATE INDEX other_k ON other USING omen (k) WITH (fillfactor = 30);
VACUUM});
my %path = map { $_ => index_path($node, "${_}_k") } @tables, @flipped, 'other';
$node->stop;
$foreign = pages_of($path{other});
for my $i (0 .. $#names)
{
	my $pages = pages_of($path{ $tables[$i] });
	die "too few pages for this test" unless blocks_of($pages, LEAF) > 5 && blocks_of($pages, MODEL);
	$damages{ $names[$i] }->($pages);
	put_pages($path{ $tables[$i] }, $pages);
}
foreach my $table (@flipped)
{
	my $pages = pages_of($path{$table});
	foreach my $block (0 .. $#$pages)
	{
		patch($pages, $block, rand(PAGE), chr rand 256) if rand() < 0.7;
		my $at = int rand(PAGE - 8);
		patch($pages, $block, $at, pack 'V', rand 2**32) if rand() < 0.3;
	}
	put_pages($path{$table}, $pages);
}
$node->start;

my @questions = (
	# By a cached router, then by pages alone.
	'SELECT count(b.k), sum(b.k) FROM (SELECT DISTINCT k FROM probes) a JOIN TABLE b ON b.k = a.k',
	'SET omen.router_memory = 0; SELECT count(b.k), sum(b.k) FROM (SELECT DISTINCT k FROM probes) a JOIN TABLE b ON b.k = a.k; RESET omen.router_memory',
	'SELECT count(*), sum(k), md5(string_agg(k::text, $$ $$)) FROM (SELECT k FROM TABLE ORDER BY k) s',
	'SELECT count(*), sum(k), md5(string_agg(k::text, $$ $$)) FROM (SELECT k FROM TABLE ORDER BY k DESC) s',
	'SET enable_indexonlyscan = off; SELECT count(*), sum(k) FROM (SELECT k, ctid FROM TABLE WHERE k > 0 ORDER BY k) s; RESET enable_indexonlyscan',
	'SET enable_bitmapscan = on; SET enable_indexscan = off; SELECT count(*), sum(k) FROM TABLE WHERE k BETWEEN -1000000000000000 AND 900000000000000; RESET enable_indexscan; SET enable_bitmapscan = off',
	'SELECT min(k), max(k) FROM TABLE');
my @actions = (
	'INSERT INTO TABLE SELECT hashint8extended(i, 1) >> 12 FROM generate_series(1, 100) i',
	'DELETE FROM TABLE WHERE k % 3 = 0',
	'VACUUM (INDEX_CLEANUP ON) TABLE',
	q{SELECT entries >= 0 FROM omen_stats('TABLE_k')});

# Asks all questions of a table, and returns the answers by number, the
# SQLSTATEs of errors, and all messages.
sub ask
{
	my ($table, $settings, @list) = @_;
	my $sql = "\\set VERBOSITY verbose\nSET statement_timeout = '20s'; SET max_parallel_workers_per_gather = 0;\n$settings;\n";
	for my $i (0 .. $#list)
	{
		(my $query = $list[$i]) =~ s/TABLE/$table/g;
		$sql .= "\\echo Q$i\n$query;\n";
	}
	my ($rc, $out, $err) = $node->psql('postgres', $sql, on_error_stop => 0);
	my %answers;
	my $number;
	foreach my $line (split /\n/, $out)
	{
		if ($line =~ /^Q(\d+)$/) { $number = $1 }
		else { $answers{$number} = $line if defined $number }
	}
	my @states = $err =~ /(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}):/g;
	push @states, "connection: $err" if $rc != 0 && $rc != 3;
	return (\%answers, \@states, $err);
}

my $by_index = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET enable_hashjoin = off; SET enable_mergejoin = off';
my $by_heap = 'SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off';
$node->safe_psql('postgres', 'CREATE TABLE probes AS SELECT k FROM d0');
my @by_heap = map { s/SET enable_bitmapscan = on; SET enable_indexscan = off;//r =~ s/(; )?RESET [^;]*//gr =~ s/; SET enable_bitmapscan = off$//r
	  =~ s/SET enable_indexonlyscan = off;//r } @questions;
my ($truth) = ask('d0', $by_heap, @by_heap);
is(scalar keys %$truth, scalar @questions, 'there are answers to compare with');

# XX002: the index is damaged. XX001: PostgreSQL's own check of a page or of
# the size of a file.
my $allowed = qr/^XX00[12]$/;
for my $i (0 .. $#names)
{
	my ($name, $table) = ($names[$i], $tables[$i]);
	my ($answers, $states, $messages) = ask($table, $by_index, @questions);
	my @wrong = map { "question $_: $answers->{$_}, but $truth->{$_}" }
	  grep { defined $answers->{$_} && $answers->{$_} ne $truth->{$_} } sort keys %$truth;
	push @wrong, grep { !/$allowed/ } @$states;
	if ($name =~ /^model/)
	{
		push @wrong, @$states, 'questions without an answer' if @$states || keys %$answers != keys %$truth;
		# The only page of a blob has no link to follow.
		push @wrong, 'no WARNING' unless $messages =~ /WARNING/ || $name eq 'model: link to itself';
	}
	my @check = map { "SELECT omen_index_check('TABLE_k', true, $_)" } qw(false true);
	foreach my $full (0, 1)
	{
		my ($sound, $faults) = ask($table, '', $check[$full]);
		my $missed = defined $sound->{0} || !@$faults;
		push @wrong, 'omen_index_check finds nothing' . ($full ? ', though full' : '')
		  if $missed && !($unseen{$name} && !$full);
		push @wrong, grep { !/$allowed/ } @$faults;
	}
	my (undef, $more, $text) = ask($table, '', @actions);
	push @wrong, grep { !/$allowed/ } @$more;
	push @wrong, $text if grep { !/$allowed/ } @$more;
	ok(!@wrong, $name) or diag(join "\n", @wrong, $messages);
	note(join ' ', $name, 'raised', @$states, @$more);
}
my (%states, $different);
foreach my $table (@flipped)
{
	my ($answers, $states) = ask($table, $by_index, @questions);
	my (undef, $more, $text) = ask($table, '', @actions);
	$states{$_}++ for @$states, @$more;
	# A TID that was changed may name the page behind the table's last. Since 16 what
	# the read that failed leaves in the buffer stays there when the table grows.
	$states{XX000} -= () = $text =~ /XX000: page \d+ of relation "$table" should be empty but is not/g;
	$different += grep { $answers->{$_} ne $truth->{$_} } keys %$answers;
}
# A TID that was changed may name a row that cannot be had.
is_deeply([ grep { $states{$_} && !/$allowed/ } keys %states ], [], 'flipped bytes raise nothing else')
  or diag(explain(\%states));
note('answers that were different where bytes were flipped: ', $different // 0);
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server is up');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|panicked/, 'nobody crashed');

# REINDEX repairs.
$node->safe_psql('postgres', join ';', map { "REINDEX INDEX ${_}_k" } @tables, @flipped);
my @bad;
foreach my $table (@tables, @flipped)
{
	my ($right) = ask($table, $by_heap, @by_heap[ 0, 2, 5 ]);
	my ($answers, $states) = ask($table, $by_index, @questions[ 0, 2, 5 ]);
	push @bad, $table if @$states || grep { $answers->{$_} ne $right->{$_} } 0 .. 2;
}
is_deeply(\@bad, [], 'REINDEX repairs');
$node->stop;

# With checksums PostgreSQL finds what we cannot.
my $checked = start_node('checked', extra => ['--data-checksums'], conf => "autovacuum = off\n");
$checked->safe_psql('postgres', q{
CREATE TABLE t (k int8);
INSERT INTO t SELECT hashint8extended(i, 0) FROM generate_series(1, 4000) i;
CREATE INDEX t_k ON t USING omen (k) WITH (fillfactor = 30);
CHECKPOINT});
my $path = index_path($checked, 't_k');
$checked->stop;
my $pages = pages_of($path);
patch($pages, a_leaf($pages), 8000, "\x55");
put_pages($path, $pages);
$checked->start;
my ($rc, $out, $err) = $checked->psql('postgres', "SET enable_seqscan = off; SET enable_sort = off;\n\\set VERBOSITY verbose\nSELECT count(k) FROM (SELECT k FROM t ORDER BY k) s");
like($err, qr/XX001: invalid page/, 'a checksum that fails');
$checked->safe_psql('postgres', 'REINDEX INDEX t_k');
is($checked->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(k) FROM (SELECT k FROM t ORDER BY k) s'),
	'4000', 'and REINDEX');
$checked->stop;
log_is_clean($checked, 'checksums');
done_testing();
