# A node comes back as it was some time ago, as from an older backup: heaps of
# what has moved away since are not taken for the truth, and statements on what
# has moved to it do not go round until no node has a session left.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my $node = $c->node(2);
my $backup = $node->basedir . '/older';

$c->sql(1, q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'before' FROM generate_series(1, 300) g;
	SELECT fragaffinity.distribute_table('t', 'id', fragments => 3)});
my ($in, $out, $stays) = map { $c->sql(1,
	"SELECT fragment FROM fragaffinity.fragments WHERE owner = '$_'") } qw(n1 n2 n3);
my %bucket = map { $_ => $c->sql(1, "SELECT bucket FROM fragaffinity.fragments WHERE fragment = $_") }
	$in, $out, $stays;

$c->stop(2);
system_or_bail('cp', '-a', $node->data_dir, $backup);
$node->start;
$c->move($out, 'n3');
$c->move($in, 'n2');
$c->sql(1, q{UPDATE t SET v = 'after'});
$c->stop(2);
system_or_bail('rm', '-rf', $node->data_dir);
system_or_bail('mv', $backup, $node->data_dir);
my $from = -s $node->logfile;
$node->start;

ok($c->poll(2, "SELECT owner || version FROM fragaffinity.fragments WHERE fragment = $out", 'n32'),
	'the node hears of what has moved away');
is($c->sql($_, "SELECT DISTINCT v FROM $bucket{$out}"), 'after', "node $_ reads it where it is") for 1 .. 3;
is($c->sql(2, "UPDATE $bucket{$out} SET v = 'again' WHERE id = (SELECT min(id) FROM $bucket{$out}) RETURNING v"),
	'again', 'and the node writes it there');
my $aside = "fragaffinity_aside_${out}_1";
is($c->sql(2, "SELECT DISTINCT v FROM $aside"), 'before', 'what it had is kept');
like(slurp_file($node->logfile, $from),
	qr/WARNING:  fragment $out is on node "n3" since version 2, and version 1 is here\n.*DETAIL:  .*public\.$aside/,
	'as its log says');

# One way sends whole statements, the other goes by postgres_fdw.
for my $i (1 .. 3)
{
	for my $sql ("SELECT count(*) FROM $bucket{$in}", "BEGIN; DELETE FROM $bucket{$in}")
	{
		my ($code, $message) = $c->fails($i, $sql);
		is($code, '55000', "node $i: $sql");
		like($message, qr/nodes do not agree which of them owns a fragment/, 'says why');
	}
}
cmp_ok($c->sql($_, q{SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'fragaffinity[: ]'}),
	'<', 40, "few sessions at node $_") for 1 .. 3;

# What is set aside does not stand in the way.
$c->move($out, 'n2');
is($c->sql(1, "SELECT count(*) FILTER (WHERE v = 'again') FROM $bucket{$out}"), '1', 'it moves back');
$c->sql(2, "DROP TABLE $aside");
is($c->sql(3, "SELECT DISTINCT v FROM $bucket{$stays}"), 'after', 'the other rows are there');

done_testing();
