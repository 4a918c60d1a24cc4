=pod

=head1 NAME

EveryIndex - one index of each access method, and what they answer

=head1 DESCRIPTION

For a table with a column n (bigint), as test/load writes to.  Each index is
over an expression of its own, so that a condition has one index to be answered
by.

=over

=item every_index(TABLE)

SQL that creates them.

=item wrong_answers(RUN, TABLE)

What the indexes answer otherwise than a sequential scan of the same snapshot
does, or that is not answered by an index; '' when all is well.  RUN runs SQL
and returns its output.

=back

=cut

package EveryIndex;

use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(every_index wrong_answers);

# Definition, condition.
my @indexes = (
	[ 'btree ((n + 1))', 'n + 1 BETWEEN 10 AND 40' ],
	[ 'hash ((n % 50))', 'n % 50 = 7' ],
	[ 'gin ((ARRAY[n % 40]))', 'ARRAY[n % 40] @> ARRAY[5::bigint]' ],
	[ 'gist ((point(n % 30, 0)))', 'point(n % 30, 0) <@ box(point(3, 0), point(4, 0))' ],
	[ 'spgist ((n::text))', "n::text ^@ '1'" ],
	[ 'brin ((n / 10)) WITH (pages_per_range = 1)', 'n / 10 BETWEEN 1 AND 30' ]);

sub every_index
{
	my ($table) = @_;
	return join '; ', map { "CREATE INDEX ON $table USING $_->[0]" } @indexes;
}

sub wrong_answers
{
	my ($run, $table) = @_;
	my @wrong;

	for my $index (@indexes)
	{
		my ($definition, $where) = @$index;
		my $answer = "SELECT count(*) || ' ' || coalesce(sum(hashint8(id) # hashint8(n)), 0) FROM $table WHERE $where";
		my $out = $run->("BEGIN ISOLATION LEVEL REPEATABLE READ;
			SET LOCAL enable_seqscan = off; $answer; EXPLAIN (COSTS OFF) $answer;
			SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off;
			SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off;
			SELECT 'by itself'; $answer; COMMIT");
		my ($by_index, $plan, $alone) = $out =~ /\A(\d+ -?\d+)\n(.*)\nby itself\n(\d+ -?\d+)\z/s;
		push @wrong, "$definition: $out"
		  unless defined $alone && $by_index eq $alone && $plan =~ /Index/ && $plan !~ /Seq Scan/;
	}
	return join "\n", @wrong;
}

1;
