=pod

=head1 NAME

SameAnswers - PostgreSQL as the oracle for statements on distributed tables

=head1 SYNOPSIS

  my $o = SameAnswers->new($cluster, { d => 'p' }, $head);
  $o->same($node, 'alone', sub { "$_[0];\n" }, @statements);

Statements name distributed tables; on node 1 each of them has a plain twin
without the extension's help.  A session runs them one after the other, once on
these and once, in their twins' names, on those; each must answer the same:
rows (in any order), command tag, SQLSTATE; or the error's message, if its
{verbosity} is set to 'terse'.

=cut

package SameAnswers;

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

=pod

=head1 METHODS

=over

=item SameAnswers->new(CLUSTER, { TABLE => TWIN, ... }, HEAD)

HEAD: SQL at the start of each session, which makes the tables' rows.

=item $o->same(NODE, NAME, FORM, STATEMENTS), errors => N

FORM makes from a statement and its number the psql script that runs it.

=back

=cut

sub new
{
	my ($class, $cluster, $twins, $head) = @_;
	return bless { c => $cluster, twins => $twins, head => $head }, $class;
}

# What each statement answered, its lines sorted.
sub _answers
{
	my ($self, $i, $oracle, $form, @sql) = @_;
	my ($out, $err) = ('', '');
	my $script = "\\set VERBOSITY " . ($self->{verbosity} // 'sqlstate') . "\nSET client_min_messages = error;\n$self->{head}\\o\n\\pset null NULL\n";
	my $n = 0;

	for my $sql (@sql)
	{
		$script .= "\\echo #" . $n++ . "\n\\warn #$n\n" . $form->($sql, $n);
	}
	if ($oracle)
	{
		for my $table (sort keys %{ $self->{twins} })
		{
			my $twin = $self->{twins}{$table};
			$script =~ s/\b$table\b/$twin/g;
			# what is not about a table
			$script =~ s/'(\W*)$twin(\W*)'/'$1$table$2'/g;
		}
	}
	my $file = "$PostgreSQL::Test::Utils::tmp_check/statements_$i" . ($oracle ? '_oracle' : '');
	append_to_file($file, $script);
	IPC::Run::run(['psql', '-XA', '-v', 'ON_ERROR_STOP=0', '-f', $file, $self->{c}->conninfo($oracle ? 1 : $i)],
		'>', \$out, '2>', \$err);
	unlink $file;
	for my $table (keys %{ $self->{twins} })
	{
		# some errors name the fragment's heap
		$err =~ s/"(?:$self->{twins}{$table}|${table}_b\d+_h)(_pkey)?"/my $s = $1 \/\/ ''; "\"$table$s\""/ge;
	}
	my @rows = split /^#\d+\n/m, $out;
	my @errors = split /^#\d+\n/m, $err;
	return map {
		my $e = $errors[$_ + 1] // '';
		$e =~ s/^psql:.*?: (?=\w)//mg;
		join("\n", (sort split /\n/, $rows[$_ + 1] // 'nothing', -1), $e)
	} 0 .. $n - 1;
}

sub same
{
	my ($self, $i, $name, $form, @sql) = @_;
	my @expected = $self->_answers($i, 1, $form, @sql);
	my @got = $self->_answers($i, 0, $form, @sql);
	my @wrong;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for my $n (0 .. $#sql)
	{
		# names of tables are in rows' headers and tags only by accident
		push @wrong, "$sql[$n]\n--- expected\n$expected[$n]--- got\n$got[$n]" if $expected[$n] ne $got[$n];
	}
	my $errors = grep { /ERROR:/ } @expected;
	note("$name: " . @sql . " statements, $errors of them errors");
	is(scalar(@wrong), 0, "$name, node $i: " . @sql . ' statements as on a plain table')
	  or diag(join("\n", @wrong[ 0 .. ($#wrong > 5 ? 5 : $#wrong) ]));
	return $errors;
}

1;
