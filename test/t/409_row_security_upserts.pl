# Upserts that are done row by row: of columns that are not named, and of rows in
# conflict by any kind of unique index.
use strict;
use warnings;
use FragAffinity;
use SameAnswers;
use Test::More;

my $c = FragAffinity->new(nodes => 2);
$c->sql($_, q{
	CREATE ROLE app LOGIN;
	CREATE FUNCTION may_see(secret int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN secret < 9; END'}) for 1, 2;
for my $table ('d', 'p')
{
	$c->sql(1, "
		CREATE TABLE $table (tenant int, id int, secret int NOT NULL DEFAULT 7, note text DEFAULT 'none', code text, f float8,
			twice int GENERATED ALWAYS AS (secret * 2) STORED, PRIMARY KEY (tenant, id),
			UNIQUE NULLS NOT DISTINCT (tenant, code), UNIQUE (tenant, f));
		GRANT ALL ON $table TO app;
		ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
		CREATE POLICY a ON $table USING (may_see(secret))");
}
$c->sql(1, q{SELECT fragaffinity.distribute_table('d', 'tenant', fragments => 4)});

my $oracle = SameAnswers->new($c, { d => 'p' },
	q{DELETE FROM d; INSERT INTO d (tenant, id, secret, code, f) SELECT i, 1, 1, nullif(i, 5)::text, i FROM generate_series(1, 6) i; SET ROLE app; SET statement_timeout = '30s';} . "\n");
my @statements = (
	q{INSERT INTO d (tenant, id, code) SELECT i, 2, 'a' || i FROM generate_series(1, 9) i ON CONFLICT (tenant, id) DO UPDATE SET note = 'x' RETURNING *},
	q{INSERT INTO d (tenant, id, secret) SELECT i, 1, 2 FROM generate_series(1, 9) i ON CONFLICT (tenant, id) DO UPDATE SET secret = d.secret + 1 RETURNING *},
	(map { (qq{INSERT INTO d (tenant, id, f) VALUES ($_, 10, 11) ON CONFLICT (tenant, code) DO UPDATE SET note = 'null' RETURNING *},
			qq{INSERT INTO d (tenant, id, f) VALUES ($_, 11, 12), ($_, 12, 13) ON CONFLICT (tenant, code) DO UPDATE SET note = 'null' RETURNING *},
			qq{INSERT INTO d (tenant, id, f) VALUES ($_, 13, NULL) ON CONFLICT (tenant, f) DO UPDATE SET note = 'f' RETURNING *}) } 1 .. 6),
	q{SET extra_float_digits = -10},
	q{INSERT INTO d (tenant, id, code, f) SELECT i, j, 'f' || j, 1 + j * 1e-7 FROM generate_series(1, 6) i, generate_series(20, 24) j},
	q{INSERT INTO d (tenant, id, code, f) SELECT i, j, 'f' || j, 1 + j * 1e-7 FROM generate_series(1, 6) i, generate_series(20, 24) j ON CONFLICT (tenant, f) DO UPDATE SET note = 'f'},
	q{RESET extra_float_digits},
	q{TABLE d});

$oracle->same($_, "node $_", sub { "$_[0];\n" }, @statements) for 1, 2;

# By what is computed of the row: from what is named, defaults, and what changes.
$c->sql(1, 'DELETE FROM d; DELETE FROM p; CREATE UNIQUE INDEX d_twice ON d (tenant, twice); CREATE UNIQUE INDEX p_twice ON p (tenant, twice)');
my $by = 'ON CONFLICT (tenant, twice) DO UPDATE SET';
my @generated = (
	"INSERT INTO d (tenant, id, f, code) SELECT i, j, i + j, j::text FROM generate_series(1, 9) i, generate_series(1, 2) j ON CONFLICT (tenant, twice) DO NOTHING",
	(map { ("INSERT INTO d (tenant, id, f, code, secret) VALUES ($_, 20, 20, 'b', 1) $by note = 'twice' || excluded.twice || d.twice RETURNING *",
			"INSERT INTO d (tenant, id, f, code, secret) VALUES ($_, 20, 20, 'b', 3), ($_, 21, 21, 'c', 4) $by secret = d.secret + 1 RETURNING *",
			"INSERT INTO d (tenant, id, f, code, secret) VALUES ($_, 21, 21, 'c', 1), ($_, 22, 22, 'd', 2) $by secret = d.secret + 1 RETURNING *",
			"INSERT INTO d (tenant, id, f, code, secret) VALUES ($_, 21, 21, 'c', 3), ($_, 22, 22, 'd', 3) $by note = 'again' RETURNING *",
			"INSERT INTO d (tenant, id, f, code, secret) VALUES ($_, 23, 23, 'e', 3) $by secret = NULL",
			"INSERT INTO d (tenant, id, f, code, secret) VALUES ($_, 24, 24, 'g', 4) $by secret = 9") } 1 .. 6),
	"INSERT INTO d (tenant, id, f, code) SELECT i, 30, i + 1, 'b' FROM generate_series(1, 9) i $by note = 'default' RETURNING *",
	'TABLE d');
$oracle->same($_, "by a generated column, node $_", sub { "$_[0];\n" }, @generated) for 1, 2;
done_testing();
