# fragaffinity-predict over a small history: what it writes, that it is the
# same each time, that no forecast depends on what comes after it, bad input.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

my $program = 'fragaffinity-predict';	# of the private installation, by PATH
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($nodes, $fragments, $steps, $test) = (3, 4, 200, 100);

append_to_file("$dir/manifest.json", sprintf '{"x": {"nodes": [%s], "fragments": [%s], "step": 60, "t0": 0, "t1": %d, "buckets": %d, "test_t0": %d}}',
	join(',', map { qq("n$_") } 1 .. $nodes), join(',', map { qq("f$_") } 1 .. $fragments), 60 * ($steps - 1), $steps, 60 * $test);

# A day of ten steps; sessions go round. From $changed on, all is otherwise.
sub write_trace
{
	my ($changed) = @_;
	unlink "$dir/x.agg.csv", "$dir/x.events.csv";
	my $agg = "ts_bucket,node,fragment,count\n";
	my $events = "ts,session,node,fragment\n";
	for my $s (0 .. $steps - 1)
	{
		for my $f (1 .. $fragments)
		{
			my $n = 1 + ($s % 10 < 5 ? $f : $f + 1) % $nodes;
			$agg .= sprintf "%d,n%d,f%d,%d\n", 60 * $s, $s < $changed ? $n : 1, $f, 1 + ($s * 7 + $f) % 4;
			$events .= sprintf "%d,s%d,n%d,f%d\n", 60 * $s + $f, $f, $n, $s < $changed ? 1 + ($s + $f) % $fragments : 1;
		}
	}
	append_to_file("$dir/x.agg.csv", $agg);
	append_to_file("$dir/x.events.csv", $events);
	return;
}

sub output
{
	my ($out, $err);
	IPC::Run::run([ $program, $dir, 'x', @_ ], '>', \$out, '2>', \$err) or die "failed: $err";
	return $out;
}

write_trace($steps);
my $all = output('--horizons', '1,10');
my @rows = split /\n/, $all;
is(shift @rows, 'ts_bucket,horizon,node,fragment,p,rate', 'header');
is(@rows, ($steps - $test) * 2 * $nodes * $fragments, 'a row for each target, horizon, node and fragment');
my %sum;
for (@rows) { my @v = split /,/; $sum{"@v[0,1,3]"} += $v[4] }
is(scalar(grep { abs($_ - 1) > 1e-4 } values %sum), 0, 'shares sum to 1');
is(output('--horizons', '1,10'), $all, 'the same again');
isnt(output('--horizons', '1,10', '--models', 'static'), $all, 'models can be left out');

write_trace(150);
my $early = sub { join "\n", grep { (split /,/)[0] <= 60 * 150 && /^\d/ } grep { my @v = split /,/; $v[1] eq '1' } split /\n/, $_[0] };
my $changed = output('--horizons', '1,10');
is($early->($changed), $early->($all), 'what comes later changes no forecast before');
isnt($changed, $all, 'and those after it');

# All of it is a round: the next one is known.
write_trace($steps);
my $next = output('--next', '--seed', '3');
like($next, qr/^all +240 +1\.0000 +1\.0000 +0\.0\d+$/m, 'a round is foreseen');
is(output('--next', '--seed', '3'), $next, 'the same again');
like(output('--next', '--models', 'lstm'), qr/^all +240 /m, 'one model alone');

# Sessions that begin in the scored part: each node's begin with a fragment of
# its own, which is known of them once their node is.
unlink "$dir/x.events.csv";
append_to_file("$dir/x.events.csv", join '', "ts,session,node,fragment\n",
	map { my $n = $_ * 7 % 5 % 3; sprintf "%d,s%d,n%d,f%d\n", 60 * $_ + 1, $_, $n + 1, $n + 1 } 0 .. $steps - 1);
$next = output('--next');
like($next, qr/^all +60 /m, 'all events are scored');
unlike($next, qr/^but the first/m, 'none of them but the first of their session');
my ($blind) = $next =~ /^the first of each session +60 +(\S+)/m;
my ($told) = $next =~ /^the same, their nodes known +60 +(\S+)/m;
cmp_ok($told, '>', 0.9, 'what sessions of a node begin with is learned');
cmp_ok($blind, '<', 0.9, 'and not known without it');

# A role goes from node to node: a fifth column says where it is.
sub write_role
{
	my ($named) = @_;
	unlink "$dir/x.agg.csv", "$dir/x.events.csv";
	my $agg = "ts_bucket,node,fragment,count\n";
	my $events = 'ts,session,node,fragment' . ($named ? ',profile' : '') . "\n";
	for my $s (0 .. $steps - 1)
	{
		my $spell = int($s / 7);
		my $at = 1 + ($spell * $spell + 5 * $spell) % $nodes;
		for my $f (1 .. $fragments)
		{
			my %count = (1 + ($s + $f) % $nodes => 1);
			$count{$at} += 5;
			$agg .= sprintf "%d,n%d,f%d,%d\n", 60 * $s, $_, $f, $count{$_} for sort keys %count;
			$events .= sprintf "%d,s%d,n%d,f%d%s\n", 60 * $s + $f, $spell, $at, $f, $named ? ',report' : '' for 1 .. 5;
		}
	}
	append_to_file("$dir/x.agg.csv", $agg);
	append_to_file("$dir/x.events.csv", $events);
	return;
}

# Log loss of static and profile model from test_t0 on.
sub losses
{
	my ($out, $err);
	IPC::Run::run([ $program, $dir, 'x', '--models', 'static,profile', '--scores' ], '>', \$out, '2>', \$err) or die "failed: $err";
	$err =~ s/.*from test_t0 on//s;
	return map { $err =~ /^ +1 $_ +(\S+)/m } 'static', 'profile';
}

write_role(1);
my ($static, $profile) = losses();
cmp_ok($profile, '<', $static - 0.1, 'where a role works is read from the fifth column');
write_role(0);
($static, $profile) = losses();
cmp_ok(abs($profile - $static), '<', 0.01, 'and nothing is made up without it');
write_trace($steps);

for (
	[ [ '--next', '--models', 'seasonal' ], qr/unknown model "seasonal"/ ],
	[ [ '--models', 'markov' ], qr/unknown model "markov"/ ],
	[ ['--nonsense'], qr/--nonsense needs a value, or is unknown/ ],
	[ [ '--horizons', '0' ], qr/a horizon must be a number/ ])
{
	my ($out, $err) = ('', '');
	ok(!IPC::Run::run([ $program, $dir, 'x', @{ $_->[0] } ], '>', \$out, '2>', \$err), "refused: @{ $_->[0] }");
	like($err, $_->[1], 'and says why');
}
append_to_file("$dir/x.events.csv", "1,s1,n1\n");
my ($out, $err) = ('', '');
ok(!IPC::Run::run([ $program, $dir, 'x', '--next' ], '>', \$out, '2>', \$err), 'a damaged row is refused');
like($err, qr/four fields expected/, 'and named');

done_testing();
