#!/usr/bin/perl
# The documentation against the code: every setting with its default, every
# server variable, every view.  Run from the top of the tree.
#
#   perl test/docs.pl            checks, as TAP
#   perl test/docs.pl --write    renews the tables of doc/settings.md
use strict;
use warnings;
use Test::More;

sub slurp
{
	my ($file) = @_;
	open my $fh, '<', $file or die "could not read \"$file\": $!";
	local $/;
	return scalar <$fh>;
}

# One row a setting, as fa_setting_defs has them; MS_PER_DAY and the like
# stand in fields that are not documented.
sub settings
{
	my $code = slurp('src/core/settings.c');
	my ($table) = $code =~ /fa_setting_defs\[\] = \{(.*?)\n\};/s
	  or die 'no fa_setting_defs';
	my @rows;
	while ($table =~ /\{"(\w+)",\s*FA_SETTING_\w+,\s*"([^"]*)",(.*?),\s*(true|false),\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}/gs)
	{
		my ($name, $default, $rest, $per_table, $text) = ($1, $2, $3, $4, $5);
		$text =~ s/"\s*"//g;
		$text =~ s/^"|"\s*$//g;
		push @rows, [ $name, $default, $per_table eq 'true' ? 'yes' : '', $text ];
	}
	return @rows;
}

# Variables of postgresql.conf and sessions; those of tests and of the
# extension's own connections are not for users.
sub variables
{
	my $code = slurp('src/core/guc.c');
	my @rows;
	while ($code =~ /DefineCustom(\w+)Variable\("([\w.]+)",\s*"([^"]*)",\s*(?:NULL|"[^"]*"),\s*&(\w+),([^;]*)\);/gs)
	{
		my ($type, $name, $text, $variable, $rest) = ($1, $2, $3, $4, $5);
		next if $rest =~ /GUC_NOT_IN_SAMPLE/;
		my ($default) = $rest =~ /^\s*("[^"]*"|\w+)/;
		$default = $default eq 'true' ? 'on' : $default eq 'false' ? 'off' :
		  $default eq '""' ? 'empty' : $default;
		$default .= 'kB' if $rest =~ /GUC_UNIT_KB/;
		$default .= 'ms' if $rest =~ /GUC_UNIT_MS/;
		push @rows,
		  [ $name, $default,
			$rest =~ /PGC_POSTMASTER/ ? 'server start' : $rest =~ /PGC_SIGHUP/ ? 'reload' : 'session', $text ];
	}
	return @rows;
}

sub row { my @cells = @_; return "| `$cells[0]` | " . join(' | ', @cells[ 1 .. $#cells ]) . ' |' }

sub table
{
	my ($head, @rows) = @_;
	my $rule = join ' | ', map { '---' } split / \| /, $head;
	return join "\n", "| $head |", "| $rule |", map { row(@$_) } @rows;
}

if (@ARGV && $ARGV[0] eq '--write')
{
	my $page = slurp('doc/settings.md');
	for my $table (table('setting | default | per table | meaning', settings()),
		table('variable | default | set at | meaning', variables()))
	{
		my ($head) = $table =~ /^(.*)/;
		$page =~ s/^\Q$head\E(?:\n\|[^\n]*)*/$table/m or die "no table \"$head\"";
	}
	open my $fh, '>', 'doc/settings.md' or die "could not write doc/settings.md: $!";
	print $fh $page;
	close $fh;
	exit;
}

my $settings_page = slurp('doc/settings.md');
$settings_page =~ s/ +/ /g;

sub check_rows
{
	my ($name, @rows) = @_;
	my @missing = grep { index($settings_page, $_) < 0 } map { row(@$_) } @rows;
	s/ +/ /g for @missing;
	@missing = grep { index($settings_page, $_) < 0 } @missing;
	ok(@rows > 0 && !@missing, $name)
	  or diag("doc/settings.md lacks (perl test/docs.pl --write):\n",
		map { "$_\n" } @missing);
}

check_rows('every setting is documented as it is', settings());
check_rows('every variable is documented as it is', variables());

my %known = map { $_->[0] => 1 } settings(), variables();
# PostgreSQL's own parameters are in a table of their own
my ($ours) = $settings_page =~ /\A(.*?)^\| parameter \|/ms;
my @stale = grep { !$known{$_} } $ours =~ /^\| `([\w.]+)`/mg;
ok(!@stale, 'no setting is documented that does not exist') or diag("@stale");

my $readme = slurp('README.md');
my @wrong = grep { $readme =~ /^\| `$_->[0]` \| `([^`]*)`/m && $1 ne $_->[1] } settings();
ok(!@wrong, 'defaults in the README are right') or diag(map { "$_->[0]\n" } @wrong);

my $script = slurp('sql/fragaffinity--1.0.sql');
my $monitoring = slurp('doc/monitoring.md');
my @views = $script =~ /^CREATE VIEW fragaffinity\.(\w+)/mg;
my @missing = grep { $monitoring !~ /`$_`/ } @views;
ok(@views > 0 && !@missing, 'every view is documented') or diag("@missing");
done_testing();
