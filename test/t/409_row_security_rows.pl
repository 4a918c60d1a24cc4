# Upserts and MERGE under policies that look at other tables, or compute by users'
# functions: the same rows, counts, errors and words as on a plain table, whichever
# node is asked.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 3);
my @nodes = 1 .. 3;

for my $i (@nodes)
{
	$c->sql($i, q{
		CREATE ROLE app LOGIN;
		CREATE ROLE auditor LOGIN;
		CREATE TABLE member (login name, tenant int);
		INSERT INTO member VALUES ('app', 2), ('app', 3), ('app', 4), ('app', NULL), ('auditor', 5);
		CREATE TABLE label (tenant int, secret int);
		INSERT INTO label SELECT t, s FROM generate_series(0, 11) t, generate_series(0, 9) s WHERE s <> t % 4;
		GRANT SELECT ON member, label TO PUBLIC;
		CREATE FUNCTION may_see(secret int) RETURNS boolean LANGUAGE plpgsql STABLE AS
			$$BEGIN RETURN secret < (SELECT count(*) FROM member m WHERE m.login = current_user); END$$;
		CREATE FUNCTION may_do(tenant int, secret int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
			$$BEGIN RETURN secret % 5 <> tenant % 5 AND 12 / (secret + 1) > 0; END$$});
}
my $columns = '(tenant int, id int, secret int NOT NULL DEFAULT 0, note varchar(20) DEFAULT lower(\'N\'),
	twice int GENERATED ALWAYS AS (secret * 2) STORED, PRIMARY KEY (tenant, id))';
my $rows = q{(tenant, id, secret, note) SELECT i % 12, i, i % 6, 'row ' || i FROM generate_series(1, 120) i};
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table $columns;
		GRANT ALL ON $table TO app, auditor;
		ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
		INSERT INTO $table $rows");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'tenant', fragments => 6)});

# Policies, of which some make no difference to what is sent, and what they are about.
my @sets = (
	[ 'membership',
		q{CREATE POLICY a ON TABLE USING (tenant IN (SELECT m.tenant FROM member m WHERE m.login = current_user))} ],
	[ 'of no member, and a level',
		q{CREATE POLICY a ON TABLE USING (tenant NOT IN (SELECT m.tenant FROM member m WHERE m.login <> current_user))},
		q{CREATE POLICY b ON TABLE AS RESTRICTIVE USING (secret <= (SELECT count(*) FROM member m WHERE m.login = current_user))
			WITH CHECK (secret < ALL (SELECT 3 + m.tenant FROM member m WHERE m.tenant > 1))} ],
	[ 'of the row',
		q{CREATE POLICY a ON TABLE USING (EXISTS (SELECT FROM label l WHERE l.tenant = TABLE.tenant AND l.secret = TABLE.secret))} ],
	[ 'by commands',
		q{CREATE POLICY a ON TABLE FOR SELECT USING (tenant IN (SELECT m.tenant FROM member m WHERE m.login = current_user) OR id > 60)},
		q{CREATE POLICY b ON TABLE FOR INSERT WITH CHECK (EXISTS (SELECT FROM label l WHERE l.secret = TABLE.secret AND l.tenant = TABLE.tenant))},
		q{CREATE POLICY c ON TABLE FOR UPDATE USING (secret NOT IN (SELECT l.secret FROM label l WHERE l.tenant = 4 - TABLE.tenant AND l.secret > 7) AND note <> 'row 26')
			WITH CHECK (note <> 'never' AND twice < 18)},
		q{CREATE POLICY d ON TABLE FOR DELETE USING (secret = (SELECT min(l.secret) FROM label l WHERE l.tenant = TABLE.tenant))} ],
	[ 'by functions',
		q{CREATE POLICY a ON TABLE TO app USING (may_see(secret))},
		q{CREATE POLICY b ON TABLE AS RESTRICTIVE TO app USING (tenant <> 4) WITH CHECK (may_do(tenant, secret))},
		q{CREATE POLICY c ON TABLE FOR SELECT TO auditor USING (may_do(tenant, secret))},
		q{CREATE POLICY d ON TABLE TO auditor USING (tenant = current_setting('app.tenant')::int) WITH CHECK (may_see(secret))} ],
	[ 'of whole rows', q{CREATE POLICY a ON TABLE USING (TABLE::text NOT LIKE '%,5,%' AND (SELECT count(*) FROM member) > 3)} ]);

my @upserts = (
	(map { my $t = $_; map { ("INSERT INTO d VALUES ($t, 12 + $t, 1, 'x') $_", "INSERT INTO d VALUES ($t, 24 + $t, 7, 'x') $_", "INSERT INTO d VALUES ($t, 1000 + $t, 3, 'x') $_") }
		q{ON CONFLICT (tenant, id) DO NOTHING},
		q{ON CONFLICT (tenant, id) DO UPDATE SET note = 'y'},
		q{ON CONFLICT (tenant, id) DO UPDATE SET secret = d.secret + 1 RETURNING *},
		q{ON CONFLICT (tenant, id) DO UPDATE SET secret = excluded.secret, note = excluded.note || d.note WHERE d.secret <> 5 RETURNING id, twice, note} } 2 .. 5),
	q{INSERT INTO d VALUES (2, 26, 8, 'x') ON CONFLICT (tenant, id) DO UPDATE SET note = 'never'},
	q{INSERT INTO d VALUES (2, 26, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET note = excluded.twice::text WHERE d.twice = excluded.twice + 4 RETURNING d AS r},
	q{INSERT INTO d VALUES (3, 27, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET (secret, note) = (SELECT max(m.tenant), min(m.login) FROM member m WHERE m.tenant = d.tenant) RETURNING *},
	q{INSERT INTO d VALUES (3, 27, 0, 'x') ON CONFLICT (tenant, id) DO UPDATE SET note = (SELECT min(l.secret) FROM label l WHERE l.tenant = d.tenant) RETURNING *, (SELECT count(*) FROM member m WHERE m.tenant = d.tenant), may_see(d.secret)},
	q{INSERT INTO d VALUES (3, 27, 1, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = 1 / (d.secret - 3)},
	q{INSERT INTO d VALUES (3, 27, 1, 'a string that is too long') ON CONFLICT (tenant, id) DO UPDATE SET secret = 1},
	q{INSERT INTO d VALUES (3, 27, NULL, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = 1},
	q{INSERT INTO d VALUES (3, 27, 1, 'x') ON CONFLICT (tenant, id) DO UPDATE SET secret = NULL},
	q{INSERT INTO d (id, tenant) VALUES (27, 3) ON CONFLICT (tenant, id) DO UPDATE SET secret = DEFAULT, note = DEFAULT RETURNING *},
	q{INSERT INTO d (id, tenant) VALUES (1027, 3) ON CONFLICT (tenant, id) DO UPDATE SET secret = DEFAULT RETURNING *},
	q{INSERT INTO d AS t VALUES (3, 27, 1, 'x') ON CONFLICT (id, tenant) DO UPDATE SET id = t.id + 2000 RETURNING t.id},
	q{INSERT INTO d VALUES (3, 39, 1, 'x'), (3, 2000, 1, 'b'), (3, 51, 1, 'c') ON CONFLICT (tenant, id) DO UPDATE SET note = excluded.note RETURNING *},
	q{INSERT INTO d VALUES (3, 39, 1, 'x'), (3, 39, 1, 'b') ON CONFLICT (tenant, id) DO UPDATE SET note = excluded.note},
	q{INSERT INTO d VALUES (3, 2001, 1, 'x'), (3, 2001, 1, 'b') ON CONFLICT (tenant, id) DO UPDATE SET note = excluded.note},
	q{INSERT INTO d VALUES (3, 2002, 1, 'x'), (3, 2002, 1, 'b') ON CONFLICT (tenant, id) DO NOTHING RETURNING *},
	q{INSERT INTO d VALUES (3, 63, 1, 'x'), (3, 63, 1, 'b') ON CONFLICT (tenant, id) DO UPDATE SET note = 'z' WHERE d.note = excluded.note},
	q{INSERT INTO d SELECT 3, i, 1, 'select' FROM generate_series(3, 60) i ON CONFLICT (tenant, id) DO UPDATE SET note = excluded.note WHERE d.secret <> 3},
	q{INSERT INTO d SELECT 2, id, secret, note FROM d WHERE tenant = 2 ON CONFLICT (tenant, id) DO UPDATE SET note = 'self ' || excluded.id RETURNING id, note},
	q{WITH s AS (SELECT 2 AS tenant, 74 AS id) INSERT INTO d (tenant, id, secret) SELECT s.tenant, s.id, 1 FROM s ON CONFLICT (tenant, id) DO UPDATE SET note = 'with'},
	(map { q{INSERT INTO d VALUES (2, 38, 1, 'a'), (3, 39, 1, 'b'), (4, 40, 1, 'c'), (3, 3004, 1, 'd'), } . "($_, 96 + $_, 1, 'e')" . q{ ON CONFLICT (tenant, id) DO UPDATE SET note = excluded.note} } 3 .. 5),
	q{TABLE d});

# By sources of which some rows match, with the actions of all kinds.  In which order
# rows are joined is the planner's choice, so those that may fail are alone.
my @sources = map { ("($_, 12 + $_, 1)", "($_, 48 + $_, 7)", "($_, 1000 + $_, 3)") } 2, 3, 5;
my @merges = (
	(map { my $source = $_; map { "MERGE INTO d USING (VALUES $source) s (tenant, id, x) ON d.tenant = s.tenant AND d.id = s.id $_" }
		q{WHEN MATCHED THEN UPDATE SET note = 'merged ' || s.x},
		q{WHEN MATCHED AND d.secret < s.x THEN UPDATE SET secret = d.secret + 1, note = d.twice::text WHEN NOT MATCHED THEN INSERT VALUES (s.tenant, s.id, s.x)},
		q{WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND s.x < 5 THEN INSERT (id, tenant) VALUES (s.id, s.tenant)},
		q{WHEN MATCHED AND d.secret = 1 THEN DO NOTHING WHEN MATCHED AND s.x > 3 THEN DELETE WHEN MATCHED THEN UPDATE SET secret = 3, note = 'never'} } @sources),
	q{MERGE INTO d USING (VALUES (3, 15), (3, 51), (3, 2051), (2, 14)) s (tenant, id) ON d.tenant = s.tenant AND d.id = s.id WHEN MATCHED THEN UPDATE SET note = 'merged'},
	q{MERGE INTO d AS t USING (SELECT 3 AS tenant, 27 AS id UNION ALL SELECT 3, 27) s ON t.tenant = s.tenant AND t.id = s.id WHEN MATCHED THEN UPDATE SET note = 'twice'},
	q{MERGE INTO d AS t USING (SELECT 3 AS tenant, 27 AS id UNION ALL SELECT 3, 27) s ON t.tenant = s.tenant AND t.id = s.id WHEN MATCHED THEN DELETE},
	q{MERGE INTO d AS t USING (SELECT 3 AS tenant, 2027 AS id UNION ALL SELECT 3, 2027) s ON t.tenant = s.tenant AND t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.tenant, s.id, 1)},
	q{MERGE INTO d USING member s ON d.tenant = s.tenant AND d.id < 40 WHEN MATCHED THEN UPDATE SET note = s.login},
	q{MERGE INTO d USING member s ON d.tenant = s.tenant AND d.id > 200 WHEN NOT MATCHED AND s.tenant IS NOT NULL THEN INSERT (tenant, id, secret) VALUES (s.tenant, 3000 + s.tenant, 1)},
	q{MERGE INTO d USING member s ON d.tenant = s.tenant AND d.id > 200 WHEN NOT MATCHED THEN INSERT (tenant, id) VALUES (s.tenant, 3000)},
	q{MERGE INTO d USING d AS s ON d.tenant = s.tenant AND d.id = s.id + 12 AND d.tenant = 3 WHEN MATCHED THEN UPDATE SET note = s.note || d.note},
	q{MERGE INTO d USING d AS s ON d.tenant = s.tenant AND d.id = s.id + 12 WHEN MATCHED AND s.id < 30 THEN DELETE},
	q{MERGE INTO d USING (SELECT 1) s ON d.tenant = 3 WHEN MATCHED AND (SELECT count(*) FROM label l WHERE l.secret = d.secret) > 2 THEN UPDATE SET note = (SELECT min(m.login) FROM member m WHERE m.tenant = d.tenant)},
	q{MERGE INTO d USING (SELECT 1) s ON d.tenant = 3 WHEN MATCHED AND d.secret = 3 THEN UPDATE SET secret = 1 / (d.secret - 3)},
	q{MERGE INTO d USING (SELECT 1) s ON d.tenant = 3 WHEN MATCHED THEN UPDATE SET secret = NULL},
	q{WITH s AS (SELECT 2 AS tenant, 74 AS id) MERGE INTO d USING s ON d.tenant = s.tenant AND d.id = s.id WHEN MATCHED THEN UPDATE SET note = 'with'},
	q{TABLE d});

my %forms = (
	alone => sub { "$_[0];\n" },
	block => sub { "BEGIN; SAVEPOINT s;\n$_[0];\nTABLE d;\nROLLBACK TO s; COMMIT;\n" },
	prepared => sub { $_[0] =~ /^TABLE/ ? "TABLE d;\n" : "PREPARE s$_[1] AS $_[0];\n" . "EXECUTE s$_[1];\n" x 3 });
my $oracle = SameAnswers->new($c, { d => 'p' }, '');
$oracle->{verbosity} = 'terse';
my @callers = map { "SET ROLE $_->[0]; SET app.tenant = '$_->[1]';" } [ 'app', 2 ], [ 'auditor', 5 ];

sub policies
{
	my ($name, @set) = @_;

	for my $table ('d', 'p')
	{
		$c->sql(1, "DROP POLICY IF EXISTS $_ ON $table") for 'a' .. 'd';
		$c->sql(1, s/TABLE\b/$table/gr) for @set;
	}
	return;
}

my $turn = 0;
for my $set (@sets)
{
	policies(@$set);
	for my $caller (@callers)
	{
		for my $form (sort keys %forms)
		{
			# what is kept of statements does not depend on who executes them
			next if $form eq 'prepared' && $caller ne $callers[0];
			my @at = $form eq 'alone' ? @nodes : $nodes[ $turn++ % 3 ];

			$oracle->{head} = "DELETE FROM d;\nINSERT INTO d $rows;\n$caller\n";
			$oracle->same($_, "$set->[0], $form, $caller", $forms{$form}, @upserts) for @at;
			$oracle->same($_, "MERGE, $set->[0], $form, $caller", $forms{$form}, @merges) for @at;
		}
	}
}
done_testing();
