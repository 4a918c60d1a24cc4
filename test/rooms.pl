#!/usr/bin/perl
# Layout of the code: who may include whom, where version tests live, sizes.
# Run from the top of the tree.  The server has folders of the same names, so
# only files that exist in include/ are ours.
use strict;
use warnings;
use File::Find;
use Test::More;

# Lower rooms first; a room includes itself and those before it.  bin: programs.
my @rooms = qw(core node catalog capture predict placement transport page
  migrate route report worker bin);
my %rank = map { $rooms[$_] => $_ } 0 .. $#rooms;
my $max_lines = 700;

my (@files, @upward, @versions, @long, @strange, @server);
find(
	{   no_chdir => 1,
		wanted => sub { push @files, $_ if /\.[ch]$/ } },
	grep { -d } qw(src include test));

for my $file (sort @files)
{
	my ($room) = $file =~ m{^(?:src|include)/([^/]+)/};
	open my $fh, '<', $file or die "could not read \"$file\": $!";
	my $lines = 0;
	push @strange, "$file: no such room" if $room && !exists $rank{$room};
	while (<$fh>)
	{
		$lines++;
		push @versions, "$file:$lines"
		  if /^\s*#.*\bPG_VERSION_NUM\b/ && $file ne 'include/core/fa_compat.h';
		next unless defined $room && exists $rank{$room};
		if (m{^\s*#\s*include\s+"(([a-z]+)/[^"]+)"} && exists $rank{$2}
			&& -f "include/$1" && $rank{$2} > $rank{$room})
		{
			push @upward, "$file:$lines includes \"$1\"";
		}
		if ($room eq 'predict' && /^\s*#\s*include\s+"(?!predict\/)([^"]+)"/)
		{
			push @server, "$file:$lines includes \"$1\"";
		}
	}
	push @long, "$file: $lines lines" if $lines > $max_lines;
}

sub none
{
	my ($name, @found) = @_;
	ok(!@found, $name) or diag(map { "$_\n" } @found);
}

ok(@files > 0, 'found the sources');
none('every folder is a room', @strange);
none('rooms include only rooms below them', @upward);
none('predict includes no server header', @server);
none('PG_VERSION_NUM only in core/fa_compat.h', @versions);
none("no file above $max_lines lines", @long);
done_testing();
