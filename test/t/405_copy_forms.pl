# COPY that no workers do: FORMAT binary, identity columns and volatile defaults.  Rows
# and errors are those of a plain table, alone and in blocks.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
my $columns = q{(k int PRIMARY KEY, v text, n int NOT NULL CHECK (n >= 0), id bigint GENERATED ALWAYS AS IDENTITY, u uuid DEFAULT gen_random_uuid())};
$c->sql(1, "CREATE TABLE p $columns; CREATE TABLE d $columns; CREATE TABLE src (k int, v text, n int);
	SELECT fragaffinity.distribute_table('d', 'k', fragments => 4)");
my $dir = PostgreSQL::Test::Utils::tempdir();
my $look = 'SELECT count(*), count(DISTINCT id), count(DISTINCT u), sum(hashtextextended(k || v || n, 0)) FROM';

for my $format ('binary', 'text')
{
	# 0: all are good; else the line of one that is not
	for my $case ([ 0, '' ], [ 3000, 'n = -1' ], [ 3000, 'n = NULL' ], [ 3000, 'k = 7' ], [ 4000, 'k = NULL' ])
	{
		my ($line, $set) = @$case;
		$c->sql(1, "TRUNCATE src, p, d; INSERT INTO src SELECT i, 'v' || i, i % 9 FROM generate_series(1, 5000) i" .
				($line ? "; UPDATE src SET $set WHERE k = $line" : ''));
		$c->sql(1, "COPY (SELECT * FROM src ORDER BY substr(v, 2)::int) TO '$dir/rows' (FORMAT $format)");
		for my $block ('', 'BEGIN; ')
		{
			my $copy = sub { "${block}COPY $_[0] (k, v, n) FROM '$dir/rows' (FORMAT $format)" . ($block ? '; COMMIT' : '') };
			my $name = "$format, $set, $block";
			for my $i (1, 2)
			{
				$c->sql(1, 'TRUNCATE d, p');
				if ($line)
				{
					my ($code) = $c->fails(1, $copy->('p'));
					my ($got, $text) = $c->fails($i, $copy->('d'));
					is($got, $code, "$name: error, node $i");
					like($text, qr/CONTEXT:  COPY d, lines? /, 'its place');
					is($c->sql($i, 'SELECT count(*) FROM d'), '0', 'nothing is left');
				}
				else
				{
					$c->sql(1, $copy->('p'));
					$c->sql($i, $copy->('d'));
					is($c->sql($_, "$look d"), $c->sql(1, "$look p"), "$name: rows, node $i, seen by $_") for 1, 2;
				}
			}
		}
	}
}
$c->check_consistent('all is consistent');
done_testing();
