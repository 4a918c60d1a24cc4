# Row security: the same rows and errors as on a plain table, for roles and
# settings of any kind; and no way around it by parts, peers or DDL.
use strict;
use warnings;
use FragAffinity;
use PostgreSQL::Test::Utils;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my @nodes = 1 .. 3;
my $code;

for my $i (@nodes)
{
	$c->sql($i, q{
		CREATE ROLE app LOGIN;
		CREATE ROLE auditor LOGIN;
		CREATE ROLE owner LOGIN;
		CREATE ROLE boss LOGIN BYPASSRLS;
		CREATE TABLE member (login name, tenant int);
		INSERT INTO member VALUES ('app', 2), ('app', 3), ('auditor', 5);
		GRANT SELECT ON member TO PUBLIC;
		GRANT CREATE ON SCHEMA public TO owner});
}

# The plain table and the one that is distributed, with the same policies from
# before; rows of 12 tenants.
my @policies = (
	q{CREATE POLICY own ON TABLE TO app USING (tenant = current_setting('app.tenant')::int)},
	q{CREATE POLICY members ON TABLE FOR SELECT TO app USING (EXISTS (SELECT FROM member m WHERE m.login = current_user AND m.tenant = TABLE.tenant))},
	q{CREATE POLICY read ON TABLE FOR SELECT TO auditor USING (secret < 3)},
	q{CREATE POLICY level ON TABLE AS RESTRICTIVE USING (secret < 4) WITH CHECK (secret < 5)},
	q{CREATE POLICY mine ON TABLE TO owner USING (tenant % 2 = 0)});

sub on
{
	my ($table, @sql) = @_;
	return join ';', map { s/TABLE\./$table./gr =~ s/ON TABLE/ON $table/gr } @sql;
}
my $columns = '(tenant int, id int, secret int NOT NULL DEFAULT 0, note text, PRIMARY KEY (tenant, id))';
my $rows = q{SELECT i % 12, i, i % 6, 'row ' || i FROM generate_series(1, 120) i};
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table $columns;
		ALTER TABLE $table OWNER TO owner;
		GRANT ALL ON $table TO app, auditor, boss;
		ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
		" . on($table, @policies) . ";
		COMMENT ON POLICY own ON $table IS 'tenants';
		INSERT INTO $table $rows");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'tenant', fragments => 6)});

sub described
{
	my ($i, $table) = @_;
	return $c->sql($i, "SELECT polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid),
			pg_get_expr(polwithcheck, polrelid), obj_description(oid, 'pg_policy')
		FROM pg_policy WHERE polrelid = '$table'::regclass ORDER BY polname")
	  =~ s/\b$table\./x./gr . $c->sql($i, "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = '$table'::regclass");
}
for my $i (@nodes)
{
	is(described($i, 'd'), described(1, 'p'), "node $i has the policies");
	is($c->sql($i, q{SELECT count(*) FROM fragaffinity.fragments f JOIN pg_class b ON b.oid = f.bucket WHERE NOT b.relrowsecurity}),
		'0', "and its buckets are closed");
}

# By views and functions of who may see more, and of the caller.
for my $x ((map { [ $_, 'd', 'od', 'cd', 'fd' ] } @nodes), [ 1, 'p', 'op', 'cp', 'fp' ])
{
	my ($i, $table, $view, $invoker, $function) = @$x;
	$c->sql($i, "
		CREATE VIEW $view AS SELECT * FROM $table; ALTER VIEW $view OWNER TO owner; GRANT ALL ON $view TO app, auditor;
		CREATE VIEW $invoker WITH (security_invoker) AS SELECT * FROM $table; GRANT ALL ON $invoker TO app, auditor;
		CREATE FUNCTION $function() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT sum(id) FROM $table WHERE tenant = 7';
		ALTER FUNCTION $function OWNER TO owner");
}

# The rows are made anew by each session, by one that may.
my $oracle = SameAnswers->new($c, { d => 'p', od => 'op', cd => 'cp', fd => 'fp' }, '');
my @statements = (
	'SELECT count(*), sum(secret) FROM d',
	'SELECT * FROM d WHERE tenant = 2',
	'SELECT * FROM d WHERE tenant = 7',
	'SELECT * FROM d WHERE tenant = 2 AND id = 14',
	q{SELECT * FROM d WHERE tenant = 3 AND note LIKE 'row 1%'},
	'SELECT tenant, count(*) FROM d GROUP BY 1',
	'SELECT x.id, y.id FROM d x JOIN d y USING (tenant) WHERE x.tenant = 2 AND x.id < y.id',
	'SELECT (SELECT count(*) FROM d WHERE tenant = 5), count(*) FROM d WHERE tenant = 2',
	'SELECT id FROM d WHERE tenant IN (2, 3, 5, 8) ORDER BY id LIMIT 3',
	'SELECT id FROM d WHERE tenant = 2 FOR UPDATE',
	'WITH x AS (SELECT * FROM d WHERE tenant = 3) SELECT count(*) FROM x',
	q{INSERT INTO d VALUES (2, 1000, 0, 'new')},
	q{INSERT INTO d VALUES (2, 1001, 4, 'new')},
	q{INSERT INTO d VALUES (2, 1002, 0, 'new') RETURNING *},
	q{INSERT INTO d VALUES (7, 1003, 0, 'new')},
	q{INSERT INTO d VALUES (5, 1003, 0, 'new')},
	q{INSERT INTO d VALUES (2, 1004, 5, 'new')},
	q{INSERT INTO d VALUES (3, 1005, 0, 'new') RETURNING id},
	q{INSERT INTO d VALUES (2, 1006, 0, 'a'), (3, 1007, 0, 'b')},
	q{INSERT INTO d VALUES (2, 14, 0, 'a')},
	q{INSERT INTO d SELECT 2, i, 0, 'many' FROM generate_series(2000, 2010) i},
	q{INSERT INTO d SELECT i % 12, i, 0, 'many' FROM generate_series(2100, 2110) i},
	q{UPDATE d SET note = 'x' WHERE tenant = 2},
	q{UPDATE d SET note = 'y' WHERE tenant = 3 AND id = 15 RETURNING *},
	q{UPDATE d SET note = 'z'},
	q{UPDATE d SET secret = 5 WHERE tenant = 2 AND id = 14},
	q{UPDATE d SET secret = 4 WHERE tenant = 2 AND id = 14},
	q{UPDATE d SET tenant = 3 WHERE tenant = 2 AND id = 26},
	q{UPDATE d SET tenant = 7 WHERE tenant = 2 AND id = 26},
	q{UPDATE d SET tenant = 4 WHERE tenant = 2 AND id = 26},
	q{DELETE FROM d WHERE tenant = 7},
	q{DELETE FROM d WHERE tenant = 2 AND id = 38 RETURNING *},
	q{DELETE FROM d WHERE tenant = 3},
	q{DELETE FROM d},
	q{SELECT count(*) FROM d},
	'SELECT count(*) FROM od WHERE tenant = 2',
	'SELECT count(*), sum(id) FROM od',
	'SELECT count(*) FROM cd WHERE tenant = 2',
	'SELECT count(*), sum(id) FROM cd',
	'SELECT fd() AS f, count(*) FROM d WHERE tenant = 2',
	q{UPDATE od SET note = 'v' WHERE tenant = 3 AND id = 3},
	q{UPDATE cd SET note = 'v' WHERE tenant = 3 AND id = 3},
	q{INSERT INTO od VALUES (7, 3000, 0, 'v')},
	q{INSERT INTO cd VALUES (7, 3001, 0, 'v')},
	q{COPY d FROM STDIN},
	q{TABLE d});
my %forms = (
	alone => sub { "$_[0];\n" },
	block => sub { "BEGIN; SAVEPOINT s;\n$_[0];\nROLLBACK TO s; COMMIT;\n" },
	prepared => sub { "PREPARE s$_[1] AS $_[0];\n" . "EXECUTE s$_[1];\n" x 3 });
my @callers = (
	"SET ROLE app; SET app.tenant = '2';",
	"SET ROLE app; SET app.tenant = '3';",
	"SET ROLE app;",
	"SET ROLE auditor; SET app.tenant = '2';",
	"SET ROLE owner;",
	"SET ROLE boss;",
	"SET ROLE app; SET app.tenant = '2'; SET row_security = off;");
for my $caller (@callers)
{
	for my $form ('alone', 'block', 'prepared')
	{
		my @sql = grep { $form ne 'prepared' || !/^(?:COPY|TABLE)/ } @statements;

		$oracle->{head} = "DELETE FROM d;\nINSERT INTO d $rows;\n$caller\n";
		$oracle->same($_, "$form, $caller", $forms{$form}, @sql) for @nodes;
	}
}

# One that forces its owner, too.
$c->sql(1, $_) for 'ALTER TABLE p FORCE ROW LEVEL SECURITY', 'ALTER TABLE d FORCE ROW LEVEL SECURITY';
$oracle->{head} = "DELETE FROM d;\nINSERT INTO d $rows;\nSET ROLE owner;\n";
$oracle->same($_, 'owner, forced', $forms{alone}, @statements) for @nodes;
$c->sql(1, $_) for 'ALTER TABLE p NO FORCE ROW LEVEL SECURITY', 'ALTER TABLE d NO FORCE ROW LEVEL SECURITY';

# A policy that says where the rows are pins them; a condition that could see what is
# hidden does not go before it.
sub plan_of
{
	my ($i, $sql) = @_;
	return $c->sql($i, "SET ROLE app; SET app.tenant = '2'; EXPLAIN (COSTS OFF, VERBOSE) $sql");
}
for my $table ('d', 'p')
{
	$c->sql(1, "ALTER POLICY members ON $table TO auditor; ALTER POLICY level ON $table WITH CHECK (secret < 4)");
}
for my $tenant (2, 3)
{
	$oracle->{head} = "DELETE FROM d;\nINSERT INTO d $rows;\nSET ROLE app; SET app.tenant = '$tenant';\n";
	$oracle->same($_, "pinned, tenant $tenant", $forms{alone}, @statements) for @nodes;
}
my $far = $c->sql(1, q{SELECT owner FROM fragaffinity.fragments WHERE bucket = ('d_b' || fragaffinity.bucket_of('d', 2))::regclass});
my ($asks) = grep { "n$_" ne $far } @nodes;
like(plan_of($asks, 'SELECT note FROM d'), qr/routed whole/, 'a tenant without a condition is one fragment');
like(plan_of($asks, 'SELECT note FROM d WHERE id = 14'), qr/routed whole/, 'with one, too');
like(plan_of($asks, q{DELETE FROM d WHERE id = 14}), qr/routed whole/, 'DELETE');
like(plan_of($asks, q{UPDATE d SET note = 'x' WHERE id = 14}), qr/routed whole/, 'UPDATE');
unlike(plan_of($asks, q{UPDATE d SET secret = 1 WHERE id = 14}), qr/routed whole/, 'not of a column that must be checked');
unlike(plan_of($asks, q{SELECT note FROM d WHERE note LIKE 'row%'}), qr/routed whole/, 'not with one that could leak');
like(plan_of($asks, q{INSERT INTO d VALUES (2, 5000, 1, 'x')}), qr/routed whole/, 'INSERT');

# Upserts: rows in conflict that the tenant must not see or change, rows that they
# must not become, conditions that leave them alone.
my $upsert = q{ON CONFLICT (tenant, id) DO UPDATE SET note = 'y', secret = d.secret + 1};
my @upserts = (
	(map { ("INSERT INTO d VALUES ($_, 12 + $_, 0, 'x') $upsert", "INSERT INTO d VALUES ($_, 12 + $_, 0, 'x') $upsert RETURNING *",
		"INSERT INTO d VALUES ($_, 24 + $_, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET note = 'z'",
		"INSERT INTO d VALUES ($_, 24 + $_, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = excluded.secret",
		"INSERT INTO d VALUES ($_, 24 + $_, 3, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = 1 / excluded.secret WHERE d.secret > 3",
		"INSERT INTO d VALUES ($_, 24 + $_, 3, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = 9 WHERE d.secret <= excluded.secret",
		"INSERT INTO d VALUES ($_, 36 + $_, 9, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = 0") } 2 .. 5),
	"INSERT INTO d VALUES (2, 4000, 0, 'x') $upsert",
	"INSERT INTO d VALUES (2, 26, 0, 'x'), (2, 4001, 0, 'x') $upsert RETURNING *",
	"INSERT INTO d VALUES (2, 4002, 0, 'x'), (3, 27, 0, 'x') $upsert",
	"INSERT INTO d VALUES (3, 27, 0, 'x'), (3, 4003, 0, 'x') $upsert",
	"INSERT INTO d VALUES (7, 31, 0, 'x') $upsert",
	"INSERT INTO d VALUES (2, 38, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET note = d.note || excluded.note WHERE d.secret > 1 RETURNING id, note",
	"INSERT INTO d VALUES (2, 38, 0, 'x') ON CONFLICT DO NOTHING",
	"INSERT INTO d VALUES (7, 31, 0, 'x') ON CONFLICT DO NOTHING",
	"INSERT INTO d (tenant, id) VALUES (2, 4004)",
	"INSERT INTO d (tenant, id) VALUES (current_setting('app.tenant')::int, 4005) RETURNING *",
	"INSERT INTO d (tenant, id) VALUES (NULL, 4006)",
	"SELECT count(*), sum(secret) FROM d");
sub upserts
{
	my ($name, @tenants) = @_;
	for my $tenant (@tenants)
	{
		for my $form (sort keys %forms)
		{
			$oracle->{head} = "DELETE FROM d;\nINSERT INTO d $rows;\nSET ROLE app; SET app.tenant = '$tenant';\n";
			$oracle->same($_, "upserts, $name, $form, tenant $tenant", $forms{$form}, @upserts) for @nodes;
		}
	}
	return;
}
upserts('all policies', 2 .. 5);
like(plan_of($asks, $upserts[0]), qr/routed whole.*CASE/s, 'an upsert is sent whole, with its checks');

# The error is the server's own, whose words tell which policy it was.
{
	my $insert = sub { $c->fails($_[0], "SET ROLE app; SET app.tenant = '4'; INSERT INTO $_[1] VALUES (4, 16, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET note = 'y'") };
	my @plain = $insert->(1, 'p');
	for my $i (@nodes)
	{
		my @got = $insert->($i, 'd');
		is($got[0], $plain[0], "node $i: SQLSTATE of a row in conflict that is hidden");
		like($got[1], qr/new row violates row-level security policy.* \(USING expression\) for table "d"/, 'and its message');
	}
}

# Where the policy is about the key alone, the row in conflict is the tenant's if
# the new one is.
$c->sql(1, "DROP POLICY level ON $_") for 'd', 'p';
upserts('tenants', 2, 3);
unlike(plan_of($asks, $upserts[0]), qr/CASE/, 'then there is nothing to check');

# Rows of several fragments of one node, under policies that say nothing of the key.
$c->sql(1, "ALTER POLICY own ON $_ USING (secret <> current_setting('app.tenant')::int)") for 'd', 'p';
$oracle->{head} = "DELETE FROM d;\nINSERT INTO d $rows;\nSET ROLE app; SET app.tenant = '2';\n";
my $each = join ', ', map { "($_, " . (3000 + $_) . ", 0, 'x')" } 0 .. 11;
my @bucket = split /\n/, $c->sql(1, q{SELECT fragaffinity.bucket_of('d', t) FROM generate_series(0, 11) t});
my @pairs = grep { $bucket[ $_->[0] ] != $bucket[ $_->[1] ] } map { [ $_, ($_ + 1) % 12 ] } 0 .. 11;
my @several = (
	"INSERT INTO d VALUES $each RETURNING *",
	# of two fragments' errors the first
	(map { ("INSERT INTO d VALUES ($_->[0], 12 + $_->[0], 0, 'x'), ($_->[1], 4000, 2, 'x')", "INSERT INTO d VALUES ($_->[0], 4000, 2, 'x'), ($_->[1], 12 + $_->[1], 0, 'x')") } @pairs),
	"INSERT INTO d VALUES $each ON CONFLICT (tenant, id) DO NOTHING RETURNING *",
	"INSERT INTO d VALUES $each ON CONFLICT (tenant, id) DO UPDATE SET secret = d.secret + 1 RETURNING *",
	"INSERT INTO d SELECT i % 12, i, 1, 'x' FROM generate_series(1, 120) i ON CONFLICT DO NOTHING",
	'INSERT INTO d VALUES ' . join(', ', map { "($_, " . (12 + $_) . ", 0, 'x')" } 1, 5, 9) . q{ ON CONFLICT (tenant, id) DO UPDATE SET note = 'y'},
	'INSERT INTO d VALUES ' . join(', ', map { "($_, " . (12 + $_) . ", 0, 'x')" } 0 .. 11) . q{ ON CONFLICT (tenant, id) DO UPDATE SET note = 'y'},
	'SELECT tenant, count(*) FROM d WHERE tenant IN (' . join(', ', 0 .. 11) . ') GROUP BY 1',
	(map { "SELECT count(*) FROM d WHERE tenant IN ($_, " . ($_ + 1) . ')' } 0 .. 11),
	'DELETE FROM d WHERE tenant = ANY (ARRAY[0, 4, 8, 1, 5, 9]) RETURNING id',
	"UPDATE d SET note = 'several' WHERE tenant IN (3, 7, 11, 2, 6, 10) RETURNING id");
for my $form (sort keys %forms)
{
	$oracle->same($_, "several fragments, $form", $forms{$form}, @several) for @nodes;
}
$c->sql(1, "ALTER POLICY own ON $_ USING (tenant = current_setting('app.tenant')::int)") for 'd', 'p';

# A policy that looks at other tables has its values from here.
for my $table ('d', 'p')
{
	$c->sql(1, "ALTER POLICY members ON $table USING (tenant IN (SELECT m.tenant FROM member m WHERE m.login = current_user)); ALTER POLICY members ON $table TO app;" . on($table, $policies[3]));
}
upserts('members', 2 .. 5);
like(plan_of($asks, "$upserts[0] RETURNING *"), qr/routed whole/, 'an upsert is sent whole');
like(plan_of($asks, 'SELECT note FROM d WHERE tenant = 2'), qr/routed whole.*ANY \(\(\$/s, 'a SELECT, too');

# No way around it.
my $bucket = 'd_b' . $c->sql(1, q{SELECT fragaffinity.bucket_of('d', 7)});
for my $i (@nodes)
{
	for my $sql ("SELECT * FROM $bucket", "INSERT INTO $bucket VALUES (7, 5000, 0)", "UPDATE $bucket SET note = ''",
		"DELETE FROM $bucket", "COPY $bucket TO STDOUT", "SELECT * FROM ${bucket}_h", "SELECT * FROM ${bucket}_r")
	{
		($code) = $c->fails($i, "SET ROLE app; $sql");
		like($code, qr/^(?:42501|42P01)$/, "node $i: $sql");
	}
	# one that says it is a peer's
	for my $token ('', "SET fragaffinity.session_token = 'abcdefabcdefabcdefabcdefabcdefab';")
	{
		my ($out, $err);
		IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-c', $token, '-c', "SELECT * FROM $bucket",
			$c->conninfo($i) . " user=app options='-c fragaffinity.origin=" . ($i % 3 + 1) . "'" ], '>', \$out, '2>', \$err);
		is($out, '', "node $i: a session that calls itself a peer's gets nothing");
		like($err, qr/42501/, 'and is told');
	}
	($code) = $c->fails($i, q{SET ROLE app; SELECT fragaffinity.vouch('abcdefabcdefabcdefabcdefabcdefab', 'abcdefabcdefabcdefabcdefabcdefab')});
	is($code, '42501', 'nor can it vouch for itself');
}

# A token that a session has is nobody else's, and lets nobody in without the secret,
# which goes to the session that had the token first: this one has stolen it.
my $token = '0123456789abcdef' x 2;
my $secret = 'fedcba9876543210' x 2;
my $thief = $c->node(1)->background_psql('postgres', on_error_stop => 0,
	extra_params => [ '-d', $c->conninfo(1) . " user=app options='-c fragaffinity.origin=2'" ]);
$thief->query_safe("SET fragaffinity.session_token = '$token'");
($code) = $c->fails(1, "SET fragaffinity.session_token = '$token'");
is($code, '22023', 'a token is taken by one session');
$c->sql(1, "SELECT fragaffinity.vouch('$token', '$secret')");
is($thief->query("SELECT count(*) FROM $bucket"), '', 'who has the token alone gets nothing');
like($thief->{stderr}, qr/permission denied for table $bucket/, 'and is told');
$thief->{stderr} = '';
$thief->query_safe("SET fragaffinity.session_token = '$secret'");
isnt($thief->query_safe("SELECT count(*) FROM $bucket"), '', 'it is the secret that lets a session in');
$thief->quit;
($code) = $c->fails(1, "SELECT fragaffinity.vouch('" . 'f' x 32 . "', '$secret')");
is($code, '42704', 'and a token must be there');

# After a lost session, a move, a split, on a node that joins.
my $fragment = $c->sql(1, "SELECT fragment FROM fragaffinity.fragments WHERE bucket = 'd_b" . $c->sql(1, q{SELECT fragaffinity.bucket_of('d', 2)}) . "'::regclass");
$c->sql(1, "DELETE FROM d; INSERT INTO d $rows");
my $s = $c->node($asks)->background_psql('postgres');
$s->query_safe("SET ROLE app; SET app.tenant = '2'");
my $query = 'SELECT count(*) FROM d WHERE tenant = 2';
my $in_block = "BEGIN; $query; COMMIT";
my $n = $s->query_safe($query);
is($n, '10', 'rows of its own');
is($s->query_safe($in_block), $n, 'as many rows in a block');
$c->sql($_, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'}) for grep { $_ != $asks } @nodes;
$c->poll($_, q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'}, '0') for grep { $_ != $asks } @nodes;
is($s->query_safe($in_block), $n, 'after its session at the peer was ended, in a block');
is($s->query_safe($query), $n, 'and alone');
for my $i (@nodes)
{
	$c->move($fragment, "n$i") if $c->owner($fragment) ne "n$i";
	is($s->query_safe("$query; $in_block"), "$n\n$n", "its rows on n$i");
}
$c->sql(1, "SELECT fragaffinity.split_fragment($fragment, '3')");
is($s->query_safe("$query; $in_block"), "$n\n$n", 'after a split');
is($c->sql($_, q{SELECT count(*) FROM fragaffinity.fragments f JOIN pg_class b ON b.oid = f.bucket WHERE NOT b.relrowsecurity}),
	'0', "its buckets are closed on n$_") for @nodes;
$s->quit;

# DDL on all nodes.
my @ddl = (
	'ALTER POLICY own ON d RENAME TO tenants',
	q{COMMENT ON POLICY tenants ON d IS 'theirs'},
	'DROP POLICY level ON d',
	'CREATE POLICY more ON d FOR INSERT TO auditor WITH CHECK (secret = 1)',
	'DROP POLICY IF EXISTS no_such ON d',
	'ALTER TABLE d RENAME COLUMN secret TO hidden',
	'ALTER TABLE d FORCE ROW LEVEL SECURITY',
	'ALTER TABLE d DISABLE ROW LEVEL SECURITY');
for my $ddl (@ddl)
{
	$c->sql(2, "SET ROLE owner; SET client_min_messages = error; $ddl");
	is(described($_, 'd'), described(2, 'd'), "node $_: $ddl") for 1, 3;
}
is($c->sql($_, q{SELECT count(*) FROM fragaffinity.fragments f JOIN pg_class b ON b.oid = f.bucket WHERE b.relrowsecurity}),
	'0', "buckets are open on n$_") for @nodes;
is($c->sql(3, q{SET ROLE app; SELECT count(*) FROM d}), '120', 'all rows for all without row security');
$c->sql(3, 'ALTER TABLE d NO FORCE ROW LEVEL SECURITY; ALTER TABLE d ENABLE ROW LEVEL SECURITY');
is($c->sql($_, q{SELECT count(*) FROM fragaffinity.fragments f JOIN pg_class b ON b.oid = f.bucket WHERE NOT b.relrowsecurity}),
	'0', "closed again on n$_") for @nodes;
for my $refused (
	[ '0A000', "CREATE POLICY x ON $bucket USING (true)" ],
	[ '0A000', "ALTER TABLE $bucket DISABLE ROW LEVEL SECURITY" ],
	[ '2BP01', 'DROP OWNED BY auditor' ],
	[ '2BP01', 'DROP TABLE member CASCADE' ])
{
	($code) = $c->fails(1, $refused->[1]);
	is($code, $refused->[0], $refused->[1]);
}

# A node that joins has them, too.
$c->sql(3, 'DROP VIEW od, cd');
$c->sql(1, $_) for q{SELECT fragaffinity.drain_node('n3')}, q{SELECT fragaffinity.remove_node('n3')};
$c->add_node(3);
is(described(3, 'd'), described(1, 'd'), 'a node that joins gets the policies');
is($c->sql(3, q{SELECT count(*), count(*) FILTER (WHERE b.relrowsecurity) FROM fragaffinity.fragments f JOIN pg_class b ON b.oid = f.bucket}),
	'7|7', 'and closed buckets');
$c->sql($_, 'DROP VIEW IF EXISTS od, cd') for 1, 2;

$c->sql(1, q{SELECT fragaffinity.undistribute_table('d')});
is($c->sql(1, q{SET ROLE app; SET app.tenant = '2'; SELECT count(*) FROM d WHERE tenant = 7}), '0', 'they are kept when it is gathered');
like(described(1, 'd'), qr/tenants.*theirs/, 'with their names and comments');
done_testing();
