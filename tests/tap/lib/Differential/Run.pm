# Runs scripts of the differential test, alone or beside sessions that write and
# vacuum, and reduces those that fail.
package Differential::Run;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Basename qw(dirname);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

our @EXPORT = qw(run_script reduce script_text functions);

my $clear = "DROP TABLE IF EXISTS t, u;\nDROP SEQUENCE IF EXISTS ids;\n";

sub functions { return slurp_file(dirname(__FILE__) . '/functions.sql'); }

# As psql may replay it, on a database without these tables.
sub script_text
{
	my ($script) = @_;
	my $text = join("\n", @{ $script->{create} }, @{ $script->{statements} }) . "\n";
	$text =~ s{ /\*,\*/|/\*[<>\{\}\[\]]\*/}{}g;
	return $text;
}

# Starts pgbench with a script that goes on until it is stopped.
sub start_beside
{
	my ($node, $name, $text) = @_;
	my $file = $node->basedir . "/$name.sql";
	unlink $file;
	append_to_file($file, $text);
	my @retry = $node->pg_version >= 15 ? '--max-tries=100' : ();
	my $beside = { out => '' };
	$beside->{run} = IPC::Run::start([ 'pgbench', '-n', '-c', 1, '-T', 3600, @retry, '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', \$beside->{out}, '2>&1');
	return $beside;
}

# Makes the tables, and runs the statements. Returns what was `seen` (counts by
# word), the `problems`, the first `error`, the place `at` which it happened, and
# the `failure` in one word, the same for the same fault.
# Options: beside => 1 (sessions beside it), go_on => 1 (after an error).
sub run_script
{
	my ($node, $script, %options) = @_;
	$node->safe_psql('postgres', q{SELECT 'ROLLBACK PREPARED ''held''' FROM pg_prepared_xacts \gexec});
	my $made = $node->psql('postgres', $clear . join("\n", @{ $script->{create} }), on_error_stop => 1, stderr => \my $not_made);
	return { failure => 'create', problems => [], error => $not_made, seen => {}, at => 0 } if $made != 0;
	my @beside;
	@beside = (start_beside($node, 'writer', $script->{beside}),
		start_beside($node, 'vacuum', "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) t;\n\\sleep 30 ms\nVACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) u;\n")) if $options{beside};
	my $number = 0;
	my $text = join("\n", map { ('\echo AT ' . $number++, $_) } @{ $script->{statements} });
	# A script that lost the end of a transaction may wait for itself.
	$text = "SET lock_timeout = '3s';\nSET statement_timeout = '30s';\n$text" if $options{go_on};
	my ($out, $err, $late) = ('', '', 0);
	my $status = $node->psql('postgres', "$text\n", stdout => \$out, stderr => \$err, on_error_stop => !$options{go_on},
		timeout => 600, timed_out => \$late, extra_params => [ '--quiet', '--no-align', '--tuples-only' ]);
	foreach my $beside (@beside)
	{
		# Its output is read to the end only by a harness that finishes by itself.
		$beside->{run}->signal('TERM');
		eval { $beside->{run}->finish };
		$err .= join('', map { "beside: $_\n" } grep { /ERROR|PANIC|FATAL/ && !/deadlock|terminating/ } split /\n/, $beside->{out});
	}
	my %result = (seen => {}, problems => [], error => '', failure => '');
	while ($out =~ /\b((?:asked|meant|omen):\w+)/g) { $result{seen}{$1}++; }
	my @parts = split /^AT (\d+)$/m, $out, -1;
	for (my $i = 1; $i < @parts; $i += 2)
	{
		$result{at} = $parts[$i] if !@{ $result{problems} };
		push @{ $result{problems} }, $parts[ $i + 1 ] =~ /^(PROBLEM.*(?:\n.*)?)/mg;
	}
	$result{at} //= 0;
	($result{error}) = $late ? 'it does not end' : $err =~ /((?:ERROR|FATAL|PANIC|server closed).*)/;
	$result{error} //= $status != 0 ? "psql: exit status $status: $err" : '';
	# The numbers in a message are others when the script is shorter.
	$result{failure} = @{ $result{problems} } ? 'problem' : $result{error} =~ s/\d+/n/gr;
	$node->poll_query_until('postgres', 'SELECT true') if $err =~ /server closed|connection to server/;
	if ($options{beside} && $err !~ /server closed|connection to server/)
	{
		my ($vacuums, $writes) = split /\|/, $node->safe_psql('postgres',
			q{SELECT (SELECT sum(vacuum_count) FROM pg_stat_user_tables WHERE relname ~ '^[tu]\d?$'), last_value - 2000000000 FROM ids});
		@{ $result{seen} }{qw(vacuums beside)} = ($vacuums, $writes);
	}
	return \%result;
}

# The least part of a list that still passes a test, by halves, then quarters, and
# so on (delta debugging), as far as `until` allows.
sub least
{
	my ($items, $test, $until) = @_;
	my @items = @{$items};
	my $chunk = int((@items + 1) / 2);
	while ($chunk >= 1 && time < $until)
	{
		my $shorter = 0;
		for (my $from = 0; $from < @items && time < $until;)
		{
			my @rest = @items;
			splice @rest, $from, $chunk;
			if ($test->(\@rest)) { @items = @rest; $shorter = 1; }
			else { $from += $chunk; }
		}
		$chunk = int($chunk / 2) if !$shorter || $chunk > @items;
	}
	return \@items;
}

# What a statement could be instead, each simpler than it.
sub simpler
{
	my ($statement) = @_;
	my @simpler;
	while ($statement =~ m{/\*<\*/(?:(?!/\*<\*/).)*?/\*>\*/}g) { push @simpler, "$`true$'"; }
	while ($statement =~ m{/\*\{\*/.*?/\*\}\*/}g) { push @simpler, "$`$'"; }
	while ($statement =~ m{generate_series\((\d+), (\d+)\)}g)
	{
		my ($before, $first, $last, $after) = ($`, $1, $2, $');
		push @simpler, map { "${before}generate_series($first, $_)$after" } grep { $_ < $last } $first, $first + 9, $first + 99, $first + 999, int(($first + $last) / 2), int(($first + 3 * $last) / 4);
	}
	return @simpler;
}

# Reduces a script as long as it fails in the same way: first the statements, then
# what they are made of. Returns the script, and what is to be said of it.
sub reduce
{
	my ($node, $script, $result, $seconds) = @_;
	my $until = time + $seconds;
	my ($runs, $beside, $tries) = (0, 0, 1);
	my $fails = sub {
		my ($statements) = @_;
		for (1 .. $tries)
		{
			$runs++;
			my $again = run_script($node, { %{$script}, statements => $statements }, beside => $beside, go_on => 1);
			# What comes of a race is not the same each time.
			return 1 if $again->{failure} eq $result->{failure} || $beside && $again->{failure} ne '';
		}
		return 0;
	};
	my @statements = @{ $script->{statements} }[ 0 .. $result->{at} ];
	if (!$fails->(\@statements))
	{
		($beside, $tries) = (1, 3);
		return ($script, 'not reproduced: this is all that was done')
		  if !$fails->(\@statements);
	}
	my $asks = qr/^SELECT \* FROM (?:compare|walk)\(/;
	my $last = pop @statements;
	my @changes = grep { !/$asks/ } @statements;
	@statements = @changes if $fails->([ @changes, $last ]);
	push @statements, $last;
	@statements = @{ least(\@statements, $fails, $until) };
	my $again = 1;
	while ($again && time < $until)
	{
		$again = 0;
		foreach my $i (reverse 0 .. $#statements)
		{
			my $with = sub { my @changed = @statements; $changed[$i] = $_[0]; return \@changed; };
			while (time < $until)
			{
				my ($better) = grep { time < $until && $fails->($with->($_)) } simpler($statements[$i]) or last;
				$statements[$i] = $better;
				$again = 1;
			}
			for (my $n = 0; time < $until; $n++)
			{
				my @lists = split m{(/\*\[\*/.*?/\*\]\*/)}s, $statements[$i];
				last if 2 * $n + 1 > $#lists;
				my $rebuilt = sub { my @all = @lists; $all[ 2 * $n + 1 ] = '/*[*/' . join(' /*,*/, ', @{ $_[0] }) . '/*]*/'; return join('', @all); };
				my ($inside) = $lists[ 2 * $n + 1 ] =~ m{^/\*\[\*/(.*)/\*\]\*/$}s;
				my @items = split m{ /\*,\*/, }, $inside;
				my $least = least(\@items, sub { $fails->($with->($rebuilt->($_[0]))) }, $until);
				$statements[$i] = $rebuilt->($least) if @{$least} < @items;
			}
		}
		my $shorter = least(\@statements, $fails, $until);
		$again = 1 if @{$shorter} < @statements;
		@statements = @{$shorter};
	}
	my $count = @statements + @{ $script->{create} };
	my $of = @{ $script->{statements} } + @{ $script->{create} };
	return ({ %{$script}, statements => \@statements },
		"reduced to $count of $of statements in $runs runs" . ($beside ? '; it needs sessions that write and vacuum beside it' : ''));
}

1;
