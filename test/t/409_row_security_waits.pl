# Upserts and MERGE that are done row by row, while others have the rows: they wait,
# and then do what they do on a plain table.
use strict;
use warnings;
use FragAffinity;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my @nodes = 1 .. 3;

for my $i (@nodes)
{
	$c->sql($i, q{
		CREATE ROLE app LOGIN;
		CREATE FUNCTION may_see(secret int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN secret < 4; END'});
}
my $rows = q{SELECT i % 12, i, 1, 'row ' || i FROM generate_series(1, 120) i};
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table (tenant int, id int, secret int NOT NULL DEFAULT 0, note text, PRIMARY KEY (tenant, id));
		GRANT ALL ON $table TO app;
		ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
		CREATE POLICY seen ON $table USING (may_see(secret))");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'tenant', fragments => 6)});

sub raced
{
	my ($i, $table, $isolation, $holds, $ends, $sql) = @_;
	my $holder = $c->node($i)->background_psql('postgres');
	my $client = $c->node($i)->background_psql('postgres', on_error_stop => 0);
	my $out;

	$c->sql(1, "DELETE FROM $table; INSERT INTO $table $rows");
	$client->query_safe('\set VERBOSITY sqlstate');
	$client->query_safe("SET ROLE app; SET default_transaction_isolation = '$isolation'");
	$holder->query_safe("BEGIN; " . $holds =~ s/TABLE/$table/gr);
	$client->{stdin} .= ($sql =~ s/TABLE/$table/gr) . ";\n\\echo done\n\\warn done\n";
	$client->{run}->pump_nb;
	my $waits = sub { grep { $c->sql($_, 'SELECT count(*) FROM pg_locks WHERE NOT granted') > 0 } @nodes };
	my $deadline = time + 60;
	until ($waits->() || $client->{stdout} =~ /done/ || time > $deadline)
	{
		$client->{run}->pump_nb;
	}
	ok($client->{stdout} !~ /done/, "$table, node $i: it waits");
	$holder->query_safe($ends);
	$client->{run}->pump until $client->{stdout} =~ /done/ && $client->{stderr} =~ /done/;
	$out = $client->{stdout} =~ s/done\s*//r;
	my ($error) = $client->{stderr} =~ /ERROR:\s+(\w+)/;
	$client->{stderr} = '';
	$client->quit;
	$holder->quit;
	return join "\n", $out, $error // '', $c->sql(1, "SELECT * FROM $table WHERE tenant = 2 ORDER BY id");
}
my $upsert = q{INSERT INTO TABLE VALUES (2, 26, 0, 'new') ON CONFLICT (tenant, id) DO UPDATE SET note = 'upserted ' || TABLE.secret RETURNING *};
my $merge = q{MERGE INTO TABLE USING (VALUES (2, 26)) s (tenant, id) ON TABLE.tenant = s.tenant AND TABLE.id = s.id AND TABLE.secret < 3
	WHEN MATCHED AND TABLE.secret = 1 THEN UPDATE SET note = 'one' WHEN MATCHED THEN UPDATE SET note = 'another'
	WHEN NOT MATCHED THEN INSERT VALUES (s.tenant, 5000 + s.id, 1, 'not matched')};
my $far = $c->sql(1, q{SELECT owner FROM fragaffinity.fragments WHERE bucket = ('d_b' || fragaffinity.bucket_of('d', 2))::regclass});
my ($asks) = grep { "n$_" ne $far } @nodes;
my $beside = 'WITH u AS (' . $upsert =~ s/RETURNING/WHERE TABLE.secret < 9 RETURNING/r . ') SELECT * FROM u';
for my $sql ($upsert, $merge, $beside)
{
	for my $case (
		[ 'changes it', 'UPDATE TABLE SET secret = 0 WHERE tenant = 2 AND id = 26', 'COMMIT' ],
		[ 'takes it back', 'UPDATE TABLE SET secret = 0 WHERE tenant = 2 AND id = 26', 'ROLLBACK' ],
		[ 'makes it another', 'UPDATE TABLE SET secret = 3 WHERE tenant = 2 AND id = 26', 'COMMIT' ],
		[ 'hides it', 'UPDATE TABLE SET secret = 7 WHERE tenant = 2 AND id = 26', 'COMMIT' ],
		[ 'deletes it', 'DELETE FROM TABLE WHERE tenant = 2 AND id = 26', 'COMMIT' ])
	{
		my ($name, $holds, $ends) = @$case;
		for my $isolation ('read committed', 'repeatable read')
		{
			my $kind = $sql eq $merge ? 'MERGE' : $sql eq $upsert ? 'upsert' : 'upsert in WITH';
			is(raced($asks, 'd', $isolation, $holds, $ends, $sql), raced(1, 'p', $isolation, $holds, $ends, $sql),
				"$kind, $isolation, while another $name");
		}
	}
}
for my $ends ('COMMIT', 'ROLLBACK')
{
	my ($holds, $sql) = ("INSERT INTO TABLE VALUES (2, 5000, 1, 'theirs')", $upsert =~ s/26/5000/r);
	is(raced($asks, 'd', 'read committed', $holds, $ends, $sql), raced(1, 'p', 'read committed', $holds, $ends, $sql),
		"upsert while another inserts it, $ends");
}
like($c->sql($asks, "SET ROLE app; EXPLAIN (COSTS OFF) " . $_ =~ s/TABLE/d/gr), qr/Row by Row/, 'it is done row by row')
  for $upsert, $merge, $beside;
done_testing();
