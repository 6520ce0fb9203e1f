# The pages of an index's file, for tests that damage it while its server is
# stopped.
package OmenPages;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(PAGE SPECIAL META INNER LEAF MODEL FREE pages_of put_pages kind blocks_of);

use constant {
	PAGE => 8192,
	SPECIAL => 8192 - 24,
	META => 1,
	INNER => 2,
	LEAF => 3,
	MODEL => 4,
	FREE => 5,
};

# Reads all pages of a file.
sub pages_of
{
	my ($path) = @_;
	my $bytes = slurp_file($path);
	return [ map { substr($bytes, $_ * PAGE, PAGE) } 0 .. length($bytes) / PAGE - 1 ];
}

sub put_pages
{
	my ($path, $pages) = @_;
	open my $file, '>:raw', $path or die "$path: $!";
	print $file join '', @$pages;
	close $file or die "$path: $!";
	return;
}

# What a page is used for; 0 if it was never written.
sub kind { return ord substr($_[0], SPECIAL + 16, 1) }
sub blocks_of { my ($pages, $kind) = @_; return grep { kind($pages->[$_]) == $kind } 0 .. $#$pages; }

1;
