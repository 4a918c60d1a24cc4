# What people tell the predictor: schedules, dependencies, sequences, profiles;
# what it says of its forecasts; and history from the server's log.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql(1, q{
	SELECT fragaffinity.configure('history_interval', '500ms');
	SELECT fragaffinity.configure('prediction_horizons', '1,4');
	CREATE TABLE a (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('a', 'id', 4);
	CREATE TABLE b (id int PRIMARY KEY, v text);
	SELECT fragaffinity.distribute_table('b', 'id', 4, colocate_with => 'a');
	CREATE TABLE other (id int PRIMARY KEY);
	SELECT fragaffinity.distribute_table('other', 'id', 3);
	CREATE TABLE plain (id int);
	INSERT INTO a SELECT g, 'x' FROM generate_series(1, 100) g;
	INSERT INTO b SELECT g, 'x' FROM generate_series(1, 100) g});
my $of = sub { $c->sql(1, "SELECT (fragaffinity.statement_fragments('SELECT FROM $_[0] WHERE id = $_[1]'))[1]") };
my $share = sub { "SELECT affinity FROM fragaffinity.predictions WHERE fragment = $_[0] AND node = '$_[1]' AND horizon = 1" };
my ($fa, $fb) = map { $of->($_, 7) } qw(a b);

# Clients of n1 use both tables.
my $reader = IPC::Run::start(
	[ 'psql', '-XqAt', '-d', $c->conninfo(1) . ' application_name=reader', '-c',
		q{DO $$ BEGIN LOOP PERFORM v FROM a WHERE id = 1 + (random() * 99)::int; COMMIT;
			PERFORM v FROM b WHERE id = 1 + (random() * 99)::int; COMMIT;
			PERFORM pg_sleep(0.004); END LOOP; END $$} ],
	'<', \undef, '>', \my $out, '2>', \my $err);
ok($c->poll(1, "SELECT ($_) > 0.9", 't'), 'forecast where it is used') for $share->($fa, 'n1'), $share->($fb, 'n1');

# A schedule that covers one key; now, then no more.
my $s = $c->sql(1, q{SELECT fragaffinity.add_schedule('a', 'n2', '7', '7', weight => 0.9, lasting => '1 day')});
ok($c->poll(1, 'SELECT (' . $share->($fa, 'n2') . ') BETWEEN 0.85 AND 0.999'), 'a schedule draws its fragment');
ok($c->poll(1, 'SELECT (' . $share->($fb, 'n2') . ') < 0.1'), 'and no other');
ok($c->poll(1, q{SELECT bool_and(abs(s - 1) < 1e-6) FROM (SELECT sum(affinity) AS s
	FROM fragaffinity.predictions GROUP BY fragment, horizon) x}), 'shares sum to 1');

# What depends on it comes along.
my $d = $c->sql(1, q{SELECT fragaffinity.add_dependency('a', 'b', 1)});
ok($c->poll(1, 'SELECT (' . $share->($fb, 'n2') . ') > 0.8'), 'a dependent fragment follows');
is($c->sql(1, qq{SELECT count(*) FROM fragaffinity.hint_link WHERE hint = $d}), '4', 'each fragment has its pair');

# Why.
my $why = $c->sql(1, "SELECT kind, name, node, fact FROM fragaffinity.explain_prediction($fa)");
like($why, qr/^forecast\|\|n2\|.* accesses expected in the step .* ahead/m, 'explained: the forecast');
like($why, qr/^model\|seasonal\|\|carries \d+ % of what sets the nodes apart/m, 'the models');
like($why, qr/^fact\|accesses\|n1\|\d+ in the last hour/m, 'the facts');
like($why, qr/^hint\|schedule $s\|n2\|from .* for 1 day, every 1 day/m, 'the hints');
like($c->sql(1, "SELECT fact FROM fragaffinity.explain_prediction($fb) WHERE kind = 'hint'"),
	qr/^used from where fragment $fa is$/, 'and who leads');

is($c->sql(1, q{SELECT fragaffinity.drop_dependency('a', 'b'), fragaffinity.drop_dependency('a', 'b')}), 't|f', 'a dependency ends');
$c->sql(1, "SELECT fragaffinity.drop_schedule($s)");
ok($c->poll(1, "SELECT ($_) > 0.9"), 'without hints as before') for $share->($fa, 'n1'), $share->($fb, 'n1');

# A schedule whose time has not come, and one for a range that hash divides.
$c->sql(1, q{SELECT fragaffinity.add_schedule('a', 'n2', starting => now() + interval '10 days', weight => 1)});
$s = $c->sql(1, q{SELECT fragaffinity.add_schedule('a', 'n2', '1', '60', weight => 0.5)});
is($c->sql(1, "SELECT cardinality(fragments) FROM fragaffinity.hint WHERE hint = $s"), '4', 'sixty keys are in all fragments');
ok($c->poll(1, 'SELECT (' . $share->($fa, 'n2') . ') BETWEEN 0.4 AND 0.6'), 'half believed is half drawn');
$c->sql(1, "SELECT fragaffinity.drop_schedule($s)");

# Keys in turn: who uses the first will use the next.
$s = $c->sql(1, q{SELECT fragaffinity.add_sequence('a', '{7,8,9,10}', 1)});
is($c->sql(1, "SELECT fragments[1] = $fa AND cardinality(fragments) = 4 FROM fragaffinity.hint WHERE hint = $s"), 't', 'a sequence knows its fragments');
$c->sql(1, "SELECT fragaffinity.drop_sequence($s)");

# A profile draws what the application uses.
$c->sql(1, q{SELECT fragaffinity.set_profile(NULL, 'reader', 'n2', 0.9)});
ok($c->poll(1, 'SELECT (' . $share->($fa, 'n2') . ') > 0.6'), 'a profile draws what its application uses');
is($c->sql(1, q{SELECT fragaffinity.drop_profile(NULL, 'reader')}), 't', 'and ends');

# Refused, each with a hint, and nothing is kept.
my $before = $c->sql(1, 'SELECT count(*) FROM fragaffinity.hint');
for (
	[ q{add_schedule('plain', 'n2')}, qr/"plain" is not a distributed table/ ],
	[ q{add_schedule('a', 'nowhere')}, qr/node "nowhere" does not exist/ ],
	[ q{add_schedule('a', 'n2', weight => 0)}, qr/weight must be above 0/ ],
	[ q{add_schedule('a', 'n2', weight => 'NaN')}, qr/weight must be above 0/ ],
	[ q{add_schedule('a', 'n2', every => '1 month')}, qr/lasts for some time/ ],
	[ q{add_schedule('a', 'n2', lasting => '2 days')}, qr/lasts for some time/ ],
	[ q{add_schedule('a', 'n2', '5')}, qr/needs both its ends/ ],
	[ q{add_schedule('a', 'n2', 'five', 'five')}, qr/invalid input syntax/ ],
	[ q{add_schedule('a', 'n2', $$1' OR v = 'x$$, $$1' OR v = 'x$$)}, qr/invalid input syntax/ ],
	[ q{add_dependency('a', 'other')}, qr/are not divided alike/ ],
	[ q{add_dependency('a', 'a')}, qr/are not divided alike/ ],
	[ q{add_sequence('a', '{1}')}, qr/needs two or more keys/ ],
	[ q{add_sequence('a', '{1,NULL}')}, qr/needs two or more keys/ ],
	[ q{set_profile(NULL, NULL, 'n2')}, qr/a role, an application, or both/ ],
	[ q{drop_schedule(4711)}, qr/schedule 4711 does not exist/ ],
	[ q{explain_prediction(4711)}, qr/fragment 4711 does not exist/ ])
{
	my ($call, $message) = @$_;
	like(($c->fails(1, "SELECT fragaffinity.$call"))[1], $message, $call);
}
like(($c->fails(2, q{SELECT fragaffinity.set_profile('postgres', NULL, 'n1')}))[1],
	qr/hints are kept on the coordinator.*Call it on node "n1"/s, 'elsewhere refused');
is($c->sql(1, 'SELECT count(*) FROM fragaffinity.hint'), $before, 'nothing was kept');

$c->sql(1, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'});
eval { $reader->finish };

# What was learned is saved when the server stops, and goes on.
my $learned = $c->sql(1, q{SELECT max(evidence) FROM fragaffinity.predictions});
$c->stop(1);
$c->restart(1);
is($c->sql(1, q{SELECT last_step > pg_postmaster_start_time() - interval '10 s' AND length(state) > 1000
	FROM fragaffinity.predictor_state}), 't', 'saved when the server stopped');
ok($c->poll(1, qq{SELECT max(evidence) > $learned / 2 FROM fragaffinity.predictions
	WHERE made_at > pg_postmaster_start_time()}), 'and not forgotten after it started');

# The log of last year.
my $dir = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $dir;
my ($n, @csv, @json) = (0);
my $record = sub {
	my ($time, $role, $app, $session, $message, $detail) = @_;
	my @field = ("2025-03-01 $time UTC", $role, 'postgres', 77, 'host', $session, ++$n, 'SELECT',
		'2025-03-01 08:00:00 UTC', '3/1', 0, 'LOG', '00000', $message, $detail, ('') x 7, $app, 'client backend', '', 0);
	push @csv, join(',', $field[0], map { s/"/""/gr =~ s/^(.+)$/"$1"/sr } @field[ 1 .. $#field ]) . "\n";
	push @json, sprintf qq({"timestamp":"%s","user":"%s","dbname":"postgres","session_id":"%s","application_name":"%s","message":"%s","detail":"%s"}\n),
	  map { s/([\\"])/\\$1/gr =~ s/\n/\\n/gr } @field[ 0, 1, 5 ], $app, $message, $detail;
};
$record->('10:00:00.100', 'postgres', 'shop', 's1', 'statement: SELECT v FROM a WHERE id = 7', '');
$record->('10:00:00.200', 'postgres', 'shop', 's1', 'duration: 2.5 ms  execute <unnamed>: SELECT v FROM b WHERE id = $1', q{parameters: $1 = '7'});
$record->('10:00:00.300', 'postgres', 'shop', 's1', "statement: UPDATE a SET v = 'a\nb \"c\", d' WHERE id = 7", '');
$record->('10:00:01.000', 'postgres', 'shop', 's1', 'statement: INSERT INTO b VALUES (7, $$x$$)', '');
$record->('10:00:01.000', 'postgres', 'shop', 's1', 'statement: SELECT nothing FROM nowhere', '');
$record->('10:00:01.000', 'nobody_of_here', 'shop', 's2', 'statement: SELECT v FROM a WHERE id = 7', '');
$record->('10:00:01.000', 'postgres', 'shop', 's1', 'checkpoint starting', '');
my $damage = sub { my ($bad, @lines) = @_; splice @lines, 2, 0, @$bad; return @lines };
append_to_file("$dir/log.csv", join '', $damage->([ qq(2025-03-01 10:00:00 UTC,"torn\n), "rubbish\n" ], @csv));
append_to_file("$dir/log.json", join '', $damage->([ "{\"torn\n", "[1]\n" ], @json));
chmod 0644, "$dir/log.csv", "$dir/log.json";
my $inserts = $c->sql(1, 'SELECT count(*) FROM b');
for my $kind (qw(csv json))
{
	$c->sql(1, q{DELETE FROM fragaffinity.history WHERE step < '2025-12-31'; DELETE FROM fragaffinity.history_step WHERE step < '2025-12-31';
		DELETE FROM fragaffinity.transition WHERE application = 'shop'});
	my ($result, $notice);
	$c->node(1)->psql('postgres', "SELECT fragaffinity.import_log('$dir/log.$kind')", stdout => \$result, stderr => \$notice);
	is($result, '4', "$kind: accesses read");
	like($notice, qr/4 accesses by 6 statements; 0 statements touch no fragment, 2 could not be planned; 2 broken records/, "$kind: counts");
	is($c->sql(1, q{SELECT string_agg(format('%s %s %s', extract(second FROM step)::float8, fragment, calls), ', ' ORDER BY step, fragment)
		FROM fragaffinity.history WHERE step < '2025-12-31'}), "0 $fa 2, 0 $fb 1, 1 $fb 1", "$kind: history");
	is($c->sql(1, q{SELECT string_agg(format('%s>%s %s', from_fragment, to_fragment, weight), ', ' ORDER BY from_fragment, to_fragment)
		FROM fragaffinity.transition WHERE application = 'shop'}), join(', ', map { "$_ 1" } sort "0>$fa", "$fa>$fb", "$fb>$fa")
		=~ s/$fa>$fb 1/$fa>$fb 2/r, "$kind: transitions");
}
is($c->sql(1, 'SELECT count(*) FROM b'), $inserts, 'nothing was run');
like(($c->fails(1, q{SELECT fragaffinity.import_log('/no/such/log')}))[1], qr/could not open log file/, 'no such file');
like(($c->fails(1, "SET statement_timeout = '60s'; SELECT fragaffinity.import_log('$dir')"))[1], qr/could not read log file/, 'a directory');

done_testing();
