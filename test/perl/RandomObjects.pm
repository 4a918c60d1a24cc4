=pod

=head1 NAME

RandomObjects - random statements by way of views, functions, cursors and savepoints

=head1 SYNOPSIS

  print RandomObjects::objects('d_');
  my $r = RandomObjects->new(4711);
  my @scripts = map { $r->statement } 1 .. 100;

What stands between RandomSql's tables and those who use them.

=cut

package RandomObjects;

use strict;
use warnings;
use RandomScripts;
our @ISA = qw(RandomScripts);

# Views: table, its columns, condition, options; columns of the view are the table's.
my %views = (
	simple => [ 'int', 'k, v, n, m, j, g, t', 'coalesce(n, 1) < 30', '' ], barrier => [ 'int', '*', 'n % 3 > 0', ' WITH (security_barrier)' ],
	local => [ 'txt', 'k, v, n, m, e, r', 'n < 20', '', ' WITH LOCAL CHECK OPTION' ], cascaded => [ 'local', 'k, v, n, m, e', 'v IS NOT NULL', '', ' WITH CASCADED CHECK OPTION' ],
	checked => [ 'num', 'k, n, v, m, t', "m < 4 OR v LIKE 'v%'", ' WITH (security_barrier)', ' WITH CHECK OPTION' ],
	invoker => [ 'pair', '*', 'k2 > 5', ' WITH (security_invoker)' ], owned => [ 'dom', '*', 'n IS NOT NULL', '' ],
	pinned => [ 'int', 'k, v, n, m, t, j', 'k = 7', '' ], pinned_checked => [ 'int', 'k, v, n', 'k = 8', '', ' WITH CHECK OPTION' ]);
my %functions = (counted => 'int', looked_up => 'text', changes => 'int', tried => 'text', in_zone => 'text', as_owner => 'int');

sub names
{
	my ($prefix) = @_;
	return map { "$prefix$_" } sort(keys %views), sort(keys %functions), 'joined', 'grouped';
}

sub base { my ($view) = @_; return $views{$view} ? base($views{$view}[0]) : $view; }

# SQL that makes views and functions, for each node; roles a and b are there.
sub objects
{
	my ($p) = @_;
	my $sql = join '', map { my ($of, $columns, $where, $options, $check) = @{ $views{$_} };
		"CREATE VIEW $p$_$options AS SELECT $columns FROM $p$of WHERE $where" . ($check // '') . ";\n" } sort { ($a eq 'cascaded') <=> ($b eq 'cascaded') } keys %views;
	return $sql . <<"SQL";
ALTER VIEW ${p}owned OWNER TO a;
CREATE VIEW ${p}joined AS SELECT x.k, x.n, x.v, y.k AS k2, y.n AS n2, y.v AS v2 FROM ${p}int x LEFT JOIN ${p}dom y ON y.k = x.n;
CREATE VIEW ${p}grouped AS SELECT n, count(*) AS c, max(v COLLATE "C") AS v FROM ${p}ts GROUP BY n;
CREATE FUNCTION ${p}counted(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT count(*)::int FROM ${p}int x WHERE x.n = \$1';
CREATE FUNCTION ${p}looked_up(int) RETURNS text STABLE LANGUAGE plpgsql AS 'DECLARE r text; BEGIN SELECT x.v INTO r FROM ${p}dom x WHERE x.k = \$1; RETURN r; END';
CREATE FUNCTION ${p}changes(int) RETURNS int LANGUAGE plpgsql AS 'DECLARE c int; BEGIN UPDATE ${p}ts SET m = m + 1 WHERE n = \$1 % 17; GET DIAGNOSTICS c = ROW_COUNT; RETURN c; END';
CREATE FUNCTION ${p}tried(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN INSERT INTO ${p}num (k, v) VALUES (\$1 / 4.0, ''tried''); RETURN ''made''; EXCEPTION WHEN unique_violation THEN RETURN ''there''; WHEN not_null_violation THEN RETURN ''null''; END';
CREATE FUNCTION ${p}in_zone(int) RETURNS text STABLE LANGUAGE plpgsql SET timezone = 'Asia/Kolkata' AS 'DECLARE r text; BEGIN SELECT min(x.k)::text || max(x.t::date) INTO r FROM ${p}ts x WHERE x.n = \$1; RETURN r; END';
CREATE FUNCTION ${p}as_owner(int) RETURNS int STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT sum(x.n)::int FROM ${p}pair x WHERE x.k = \$1 % 13';
ALTER FUNCTION ${p}as_owner(int) OWNER TO a;
SQL
}

# A view's text, scope, table and alias, like table().
sub view
{
	my ($self, $name) = @_;
	$name //= $self->one_of(sort keys %views);
	my $alias = $self->name('a');
	my $table = base($name);
	my @scope = $self->scope($table, $alias);
	my $columns = $views{$name}[1];
	@scope = grep { my ($c) = $_->[0] =~ /\.(\w+)$/; $columns eq '*' || $columns =~ /\b$c\b/ } @scope;
	return ("$self->{prefix}$name $alias", \@scope, $table, $alias, $name);
}

sub view_query
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->view;
	return $self->one_of("SELECT * FROM $self->{prefix}joined x WHERE x." . $self->one_of('k = ', 'k2 = ', 'n2 < ') . $self->upto(20),
		"SELECT c, v, n FROM $self->{prefix}grouped x WHERE x." . $self->one_of('n = ', 'c > ') . $self->upto(9),
		"SELECT x.v, y.c FROM $self->{prefix}simple x JOIN $self->{prefix}grouped y USING (n) WHERE x.k < " . $self->upto(30)) if $self->chance(20);
	my $shown = join ', ', map { $self->shown($_, $scope, 2) } map { $self->one_of(qw(int text numeric)) } 1 .. 2;
	my $where = $self->pinned($table, $alias, $scope);
	if ($self->chance(30))
	{
		my ($other, $more, $kind, $name) = $self->chance(50) ? $self->view : $self->table;
		return "SELECT $shown FROM $from " . $self->one_of('JOIN', 'LEFT JOIN') . " $other ON $name.n = $alias.n WHERE $where";
	}
	return "SELECT $shown FROM $from WHERE $where" . $self->one_of('', '', ' FOR UPDATE', ' ORDER BY 1, 2 LIMIT 3');
}

sub view_change
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias, $view) = $self->view;
	my %there = map { $_->[0] =~ s/.*\.//r => 1 } @$scope;
	my $what = $self->upto(100);
	my $where = $self->pinned($table, $alias, $scope);
	my $returning = $self->one_of('', " RETURNING $alias.n, $alias.v", " RETURNING $alias.*");
	if ($what < 45)
	{
		my $set = $self->one_of('n = ' . $self->expression('int', $scope, 1) . ' % 35', 'v = ' . $self->expression('text', $scope, 1), 'm = round(' . $self->expression('numeric', $scope, 1) . ', 2) % 1000');
		$set =~ s/^m = .*/v = 'u'/ unless $there{m};
		$set =~ s/^n = (.*) % 35$/n = ($1) % 35/;
		return "UPDATE $from SET $set WHERE $where$returning";
	}
	return "DELETE FROM $from WHERE $where AND $alias.n > 8$returning" if $what < 60;
	my $i = $self->one_of(7, 8, 100 + $self->upto(200), 1 + $self->upto(45));
	my $key = RandomSql::key_of($table, $i);
	# upserts by views are refused on other nodes
	return "INSERT INTO $self->{prefix}$view AS $alias (" . ($table eq 'pair' ? 'k, k2' : 'k') . ", v, n) VALUES ($key, " . $self->literal('text') . ', ' . $self->upto(40) . ')' . $returning;
}

# Functions where expressions are.
sub called
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->chance(75) ? $self->table : $self->view;
	my $p = $self->{prefix};
	my $int = sub { $self->expression('int', $scope, 1) };
	my $f = sub { my $name = $self->one_of(@_); "$p$name(" . $int->() . ')' };
	my @stable = qw(counted looked_up in_zone as_owner);
	my $where = $self->pinned($table, $alias, $scope);
	return $self->one_of(
		sub { "SELECT $alias.n, " . $f->(@stable) . ' AS c1, ' . $f->(@stable) . " AS c2 FROM $from WHERE $where" },
		sub { "SELECT $alias.v, $alias.n FROM $from WHERE " . $f->('counted', 'as_owner') . $self->one_of(' > ', ' = ') . $self->upto(4) . ' AND ' . $where },
		sub { "SELECT $alias.v, $alias.n FROM $from WHERE $alias.v = " . $f->('looked_up') },
		sub { "SELECT $alias.n, f FROM $from, LATERAL $p" . "counted($alias.n) f WHERE $where" },
		sub { "UPDATE $p$table $alias SET n = coalesce(" . "${p}counted($alias.n)" . ", 0) % 40, v = left(" . "${p}looked_up($alias.n)" . ", 9) WHERE " . $self->pinned($table, $alias, [ $self->scope($table, $alias) ]) . " RETURNING n, v" },
		sub { "DELETE FROM $p$table $alias WHERE $alias.n > 8 AND ${p}counted($alias.n) > 1 RETURNING $alias.n, ${p}in_zone($alias.n) AS c1" },
		# of what functions change nothing else is said
		sub { "SELECT sum(${p}changes($alias.n)) FROM (SELECT n FROM $p" . $self->one_of(qw(int dom txt num)) . " WHERE n < 9 ORDER BY k) $alias" },
		sub { "SELECT ${p}tried(i) AS c1 FROM generate_series(" . $self->upto(40) . ', ' . (30 + $self->upto(30)) . ') i' },
		sub { "UPDATE ${p}dom $alias SET v = ${p}tried($alias.k) WHERE " . $self->pinned('dom', $alias, [ $self->scope('dom', $alias) ]) . " RETURNING v" },
		sub { "INSERT INTO ${p}int (k, v, n) SELECT 900 + i, ${p}looked_up(i), ${p}counted(i) FROM generate_series(1, " . (1 + $self->upto(9)) . ") i ON CONFLICT DO NOTHING RETURNING v, n" })->();
}

# Rows as values.
sub whole_rows
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my ($other, $more, $kind, $name) = $self->table($table);
	my $key = sub { $self->key_value($table) };
	my $where = $self->pinned($table, $alias, $scope);
	my $p = $self->{prefix};
	return $self->one_of(
		sub { "SELECT $alias FROM $from WHERE $where" },
		sub { "SELECT $alias.v, row_to_json($alias) FROM $from WHERE $where" },
		sub { "SELECT ($alias).n, ($alias).v FROM (SELECT $alias FROM $from WHERE $where OFFSET 0) q" },
		sub { "SELECT count(*) FROM $from WHERE $alias IS NOT NULL AND $where" },
		sub { "SELECT $alias.n, count($name) FROM $from LEFT JOIN $other ON $alias.k = $name.k AND $name.n > 5 WHERE $where GROUP BY $alias.n" },
		sub { "SELECT $alias.n FROM $from JOIN $other ON $alias = $name WHERE $where" },
		sub { "SELECT $alias.n FROM $from WHERE ($alias.k, $alias.n)" . $self->one_of(' < ', ' >= ', ' = ') . '(' . $key->() . ', ' . $self->literal('int') . ')' },
		sub { "SELECT $alias.n, $alias.v FROM $from WHERE ($alias.k, $alias.n) IN ((" . join('), (', map { $key->() . ', ' . $self->literal('int') } 1 .. 3) . '))' },
		sub { "SELECT $alias.n, $alias.v FROM $from WHERE ($alias.k, $alias.v) " . $self->one_of('IN', 'NOT IN') . " (SELECT $name.k, $name.v FROM $other WHERE $name.n < 9)" },
		sub { "SELECT $alias.n FROM $from WHERE ROW($alias.n, $alias.v) IS " . $self->one_of('DISTINCT', 'NOT DISTINCT') . ' FROM ROW(' . $self->literal('int') . ', ' . $self->literal('text') . ')' },
		sub { "UPDATE $from SET (v, n) = (SELECT max($name.v COLLATE \"C\"), count(*) FROM $other WHERE $name.n = $alias.n) WHERE $where RETURNING $alias" },
		sub { "UPDATE $from SET (v, n) = ROW(" . $self->literal('text') . ', ' . $self->upto(40) . ") WHERE $where RETURNING $alias.*" },
		sub { "UPDATE $from SET r[" . (1 + $self->upto(4)) . "] = " . $self->upto(9) . ", j['x'] = '" . $self->upto(9) . "', a[2] = 'z' WHERE $where RETURNING r, j, a" },
		sub { "DELETE FROM $from WHERE $where AND $alias.n > 8 RETURNING $alias, ($alias).v" },
		sub { "WITH w AS (DELETE FROM $from WHERE $where AND $alias.n > 8 RETURNING $alias) SELECT (w.$alias).v, (w.$alias).n FROM w" },
		sub { "SELECT q.n, q.v FROM $from, LATERAL (SELECT ($alias).*) q WHERE $where" },
		sub { "SELECT jsonb_agg($alias ORDER BY " . $self->unique($scope) . ") FROM $from WHERE $where" },
		sub { "SELECT $alias.v FROM $from WHERE $alias.k = ANY (ARRAY(SELECT $name.k FROM $other WHERE $name.n = " . $self->upto(9) . '))' },
		sub { "SELECT count(*) FROM $from NATURAL JOIN (SELECT k, n FROM $p$table WHERE n < 12) y WHERE $where" },
		sub { "SELECT $alias.n, $alias.v FROM $from JOIN unnest(ARRAY[" . join(', ', map { $key->() } 1 .. 4) . "]) u(k) USING (k)" },
		sub { "SELECT i, $alias.v FROM generate_series(1, 12) i LEFT JOIN LATERAL (SELECT * FROM $p$table z WHERE z.n = i ORDER BY z.k LIMIT 1) $alias ON true" },
		sub { "SELECT $alias.n, $alias.v FROM $from WHERE $where ORDER BY $alias.n FETCH FIRST " . (1 + $self->upto(5)) . ' ROWS WITH TIES' })->();
}

# Keys that change within WITH, and what is at the ends of types.
sub moved_keys
{
	my ($self) = @_;
	my $table = $self->one_of(qw(int dom num ts txt));
	my ($from, $scope, undef, $alias) = $self->table($table);
	my $more = 5000 * ++$self->{inserts};
	my $new = { int => "$alias.k + $more", dom => "$alias.k + " . $more % 90000, txt => "$alias.k || '/$more'", num => "$alias.k + $more", ts => "$alias.k + interval '$more days'" }->{$table};
	my $where = $self->pinned($table, $alias, $scope);
	my $p = $self->{prefix};
	return $self->one_of(
		sub { "WITH w AS (UPDATE $from SET k = $new WHERE $where RETURNING $alias.n, $alias.v) SELECT count(*), sum(n), max(v COLLATE \"C\") FROM w" },
		sub { "WITH w AS (UPDATE $from SET k = $new, n = 3 WHERE $where RETURNING $alias.*) INSERT INTO $p" . $self->one_of(qw(pair)) . " (k, k2, v, n) SELECT 77, $more + row_number() OVER (ORDER BY k), v, n FROM w RETURNING k2 - $more, v" },
		sub { "WITH w AS (DELETE FROM $from WHERE $where AND $alias.n > 6 RETURNING $alias.k, $alias.v, $alias.n) INSERT INTO $p$table (k, v, n) SELECT " . ($new =~ s/^$alias\.k/k/r) . ', v, n FROM w RETURNING n, v' },
		sub { "UPDATE $from SET k = $new, v = 'moved' WHERE $where RETURNING n, v, g" },
		sub { "UPDATE $from SET k = $new FROM (VALUES (3), (5)) q(c) WHERE $alias.n = q.c RETURNING $alias.n, q.c" },
		sub { "WITH w AS (UPDATE $from SET k = $new WHERE $where RETURNING $alias.k), z AS (DELETE FROM $p$table y USING w WHERE y.k = w.k RETURNING y.n) SELECT (SELECT count(*) FROM w), (SELECT count(*) FROM z), count(*) FROM $p$table" },
		sub { my $of = $self->one_of('num', 'ts'); my $k = $of eq 'num' ? $self->one_of("'NaN'", "'Infinity'", "'-Infinity'", "1e-30", "-0.0") : $self->one_of("'infinity'", "'-infinity'", "'0044-03-15 BC'");
			$self->one_of("INSERT INTO $p$of AS $alias (k, v, m, t, u) VALUES ($k, 'end', 'NaN', 'infinity', '(,)') ON CONFLICT (k) DO UPDATE SET v = $alias.v || 'x', n = coalesce($alias.n, 0) + 1 RETURNING k, v, n, m, t, u",
				"SELECT k, v, m, t, u FROM $p$of WHERE k = $k", "DELETE FROM $p$of WHERE k = $k RETURNING v, m, t", "UPDATE $p$of SET m = 'NaN', t = '-infinity' WHERE k >= $k AND n < 9 RETURNING k, m, t",
				"SELECT max(m), min(m), sum(m), max(t), min(t), count(*) FROM $p$of WHERE m <> 'NaN' OR k > $k", "SELECT k, m FROM $p$of WHERE m = 'NaN' ORDER BY k DESC LIMIT 3") })->();
}

# Of all that a transaction can do, in an order of chance.
sub transaction
{
	my ($self) = @_;
	my @steps = 'BEGIN' . $self->one_of('', '', '', ' ISOLATION LEVEL REPEATABLE READ', ' READ ONLY', ' ISOLATION LEVEL SERIALIZABLE');
	my (@open, @cursors);
	my $table = $self->one_of(qw(int txt num dom ts pair));
	my $of = sub { $self->chance(60) ? $table : undef };
	for (1 .. 4 + $self->upto(10))
	{
		my $what = $self->upto(100);
		if ($what < 22) { my $s = $self->one_of('s1', 's2', 's3'); push @steps, "SAVEPOINT $s"; push @open, $s; }
		elsif ($what < 32 && @open) { push @steps, 'ROLLBACK TO ' . $self->one_of(@open); }
		elsif ($what < 36 && @open) { push @steps, 'RELEASE ' . $self->one_of(@open); }
		elsif ($what < 62) { push @steps, ($self->change($of->()))[0]; }
		elsif ($what < 68) { push @steps, $self->one_of(sub { 'SELECT 1/0' }, sub { "INSERT INTO $self->{prefix}int (k, v) SELECT k, v FROM $self->{prefix}int WHERE k = " . (1 + $self->upto(40)) },
			sub { "UPDATE $self->{prefix}$table SET n = 5000 WHERE k = " . RandomSql::key_of($table, 3) =~ s/,.*//r }, sub { "INSERT INTO $self->{prefix}pair (k, k2) VALUES (1, NULL)" })->(); }
		elsif ($what < 76) { my $c = $self->name('c'); my ($sql, @types) = $self->select([], 1); push @cursors, $c;
			push @steps, "DECLARE $c SCROLL CURSOR " . $self->one_of('', '', 'WITH HOLD ') . "FOR SELECT * FROM ($sql) x ORDER BY " . join(', ', 1 .. @types); }
		elsif ($what < 84 && @cursors) { push @steps, $self->fetch($self->one_of(@cursors)); }
		elsif ($what < 88) { push @steps, 'SET LOCAL timezone = ' . $self->one_of("'Asia/Kolkata'", "'UTC'", "'America/St_Johns'"), "SELECT min(k::date), count(DISTINCT k::date) FROM $self->{prefix}ts WHERE k < '2024-01-02 02:00'"; }
		elsif ($what < 91) { push @steps, "TRUNCATE $self->{prefix}$table"; }
		else { push @steps, $self->one_of(sub { $self->whole_rows }, sub { $self->query }, sub { $self->moved_keys })->(); }
	}
	push @steps, "FETCH ALL FROM $_" for @cursors;
	push @steps, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $self->{prefix}$table x";
	my $end = $self->one_of('COMMIT', 'COMMIT', 'ROLLBACK', 'COMMIT AND CHAIN');
	push @steps, $end;
	push @steps, ($self->change($table))[0], 'COMMIT' if $end =~ /CHAIN/;
	# those with hold live on
	push @steps, (map { "FETCH 2 FROM $_" } @cursors), 'CLOSE ALL';
	return join ";\n", @steps, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $self->{prefix}$table x";
}

sub fetch
{
	my ($self, $c) = @_;
	return $self->one_of('FETCH', 'FETCH', 'MOVE') . ' ' . $self->one_of('NEXT', 'PRIOR', 'FIRST', 'LAST', 'ABSOLUTE ' . $self->one_of(-2, 0, 3), 'RELATIVE ' . $self->one_of(-1, 0, 2),
		'FORWARD 3', 'BACKWARD 2', 'BACKWARD ALL', '0') . " FROM $c";
}

sub scrolled
{
	my ($self) = @_;
	my $c = $self->name('c');
	my ($sql, @types) = $self->chance(60) ? $self->select([], 1) : do { my ($from, $scope, $table, $alias) = $self->table;
		("SELECT $alias.n, $alias.v FROM $from WHERE " . $self->pinned($table, $alias, $scope), 'int', 'text') };
	my $order = join ', ', 1 .. @types;
	my @steps = ('BEGIN', "DECLARE $c SCROLL CURSOR FOR " . $self->one_of("SELECT * FROM ($sql) x ORDER BY $order", "SELECT * FROM ($sql) x ORDER BY $order", "SELECT *, count(*) OVER () FROM ($sql) x ORDER BY $order"));
	push @steps, $self->chance(25) ? ($self->change)[0] : $self->fetch($c) for 1 .. 7;
	return join ";\n", @steps, 'COMMIT';
}

# Numbers of rows, arrays of keys and the like as parameters, under plans for all values.
sub limited
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my $type = RandomSql::key_type($table);
	my $order = $self->unique($scope);
	my $name = $self->name('p');
	my $keys = sub { 'ARRAY[' . join(', ', map { $self->chance(8) ? 'NULL' : $table eq 'pair' ? $self->upto(13) : $self->key_value($table) } 1 .. 1 + $self->upto(5)) . "]::$type" . '[]' };
	my $where = $self->one_of("$alias.k = ANY (\$3)", "$alias.k = ANY (\$3)", "$alias.k <> ALL (\$3)", "$alias.k IN (SELECT unnest(\$3))", "$alias.k = \$3[1]", "\$3 IS NULL OR $alias.k = ANY (\$3)",
		"$alias.k = coalesce(\$3[2], \$3[1])", "(\$3[1] IS NULL OR $alias.k >= \$3[1])");
	my $sql = $self->one_of("SELECT $alias.n, $alias.v FROM $from WHERE $where ORDER BY $order LIMIT \$1 OFFSET \$2", "SELECT $alias.n, $alias.v FROM $from WHERE $where ORDER BY $order LIMIT \$1 OFFSET \$2",
		"WITH w AS (SELECT * FROM $from WHERE $where ORDER BY $order LIMIT \$1) UPDATE $self->{prefix}$table y SET n = coalesce(y.n, 0) % 40 + \$2 FROM w WHERE y.k = w.k" . ($table eq 'pair' ? ' AND y.k2 = w.k2' : '') . ' RETURNING y.n',
		"DELETE FROM $from WHERE $where AND $alias.n > \$1 + \$2 RETURNING $alias.n, $alias.v", "UPDATE $from SET v = 'p' || \$1, n = \$2 WHERE $where RETURNING $alias.v, n");
	my @steps = ($self->one_of('SET plan_cache_mode = force_generic_plan', 'SET plan_cache_mode = auto'), "PREPARE $name(int, int, $type" . "[]) AS $sql");
	push @steps, "EXECUTE $name(" . $self->one_of('NULL', 0, 1, 3, 10) . ', ' . $self->one_of('NULL', 0, 1, 4) . ', ' . $self->one_of($keys->(), $keys->(), $keys->(), 'NULL', "'{}'") . ')' for 1 .. 7;
	return join ";\n", @steps, "DEALLOCATE $name", 'RESET plan_cache_mode';
}

# Tables of the session beside those of all.
sub with_temporary
{
	my ($self) = @_;
	my $t = $self->name('pg_temp.t');
	my $table = $self->one_of(qw(int txt num dom ts));
	my ($from, $scope, undef, $alias) = $self->table($table);
	my $full = "$self->{prefix}$table";
	my $where = $self->where($table, $alias, $scope);
	my @steps = ("CREATE TEMP TABLE " . $t =~ s/pg_temp\.//r . " AS SELECT $alias.k, $alias.v, $alias.n FROM $from$where");
	push @steps, $self->one_of("SELECT y.n, y.v, x.m FROM $t x0 JOIN $full y USING (k) JOIN $full x USING (k)", "UPDATE $full y SET n = coalesce(z.n, 1) + 1, v = 'tt' FROM $t z WHERE y.k = z.k AND z.n < 20 RETURNING y.n, z.v",
		"DELETE FROM $full y USING $t z WHERE y.k = z.k AND z.n > 8 RETURNING z.n", "UPDATE $t z SET v = y.w FROM $full y WHERE y.k = z.k RETURNING z.v",
		"INSERT INTO $t SELECT x.k, x.v, 1 FROM $full x WHERE x.n < 8 AND x.k NOT IN (SELECT k FROM $t)", "SELECT count(*) FROM $t z WHERE NOT EXISTS (SELECT FROM $full y WHERE y.k = z.k AND y.n = z.n)",
		"INSERT INTO $full AS y (k, v, n) SELECT k, 'ups', 5 FROM $t ON CONFLICT (k) DO UPDATE SET n = y.n % 30 + excluded.n RETURNING y.n, y.v",
		"MERGE INTO $full y USING $t z ON y.k = z.k WHEN MATCHED AND z.n > 9 THEN DELETE WHEN MATCHED THEN UPDATE SET v = z.v || '!' WHEN NOT MATCHED THEN INSERT (k, v) VALUES (z.k, z.v)",
		"WITH w AS (DELETE FROM $t RETURNING k, n) UPDATE $full y SET n = w.n FROM w WHERE w.k = y.k RETURNING y.n") for 1 .. 3;
	@steps = ('BEGIN', @steps, $self->one_of('COMMIT', 'ROLLBACK')) if $self->chance(40);
	return join ";\n", @steps, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $full x", "DROP TABLE IF EXISTS $t";
}

# Pieces of a function beside those of RandomScripts.
sub piece
{
	my ($self, $depth) = @_;
	return $self->SUPER::piece($depth) if $self->chance(45);
	my $table = $self->one_of(qw(int txt num dom ts));
	my $p = $self->{prefix};
	my $full = "$p$table";
	my $key = RandomSql::key_of($table, '(vi % 45)');
	my @forms = (
		sub { "FOR vr IN SELECT x.* FROM $full x WHERE x.n < vi % 20 ORDER BY x.k LOOP UPDATE $full x SET m = x.m + 1, v = left(vr.v || x.n, 12) WHERE x.k = vr.k; END LOOP; RETURN NEXT 'looped ' || FOUND;" },
		sub { "FOR vr IN EXECUTE 'SELECT x.k, x.n FROM $full x WHERE x.n > \$1 ORDER BY x.k' USING vi % 15 LOOP EXIT WHEN vr.n > 14; RETURN NEXT vr::text; " . $self->piece(0) . ' END LOOP;' },
		sub { "SELECT x INTO vr FROM $full x WHERE x.k = $key; RETURN NEXT coalesce(vr::text, 'none');" },
		sub { "SELECT * INTO vr FROM $full x WHERE x.k = $key FOR UPDATE; IF FOUND THEN UPDATE $full x SET (v, n) = (vr.v, coalesce(vr.n, 0) % 30 + 1) WHERE x.k = vr.k; END IF; RETURN NEXT 'locked ' || FOUND;" },
		sub { "RETURN NEXT coalesce(${p}" . $self->one_of('counted', 'as_owner', 'looked_up') . "(vi)::text, 'NULL');" },
		sub { "RETURN NEXT ${p}tried(vi % 60);" },
		sub { "PERFORM ${p}changes(vi);" },
		sub { "vc := (SELECT count(*) FROM $full x WHERE x.n = vi % 17 AND x.v IS DISTINCT FROM vs); RETURN NEXT 'counted ' || vc;" },
		sub { "OPEN cur SCROLL FOR SELECT x.v, x.n FROM $full x WHERE x.n < 9 ORDER BY x.k; FETCH LAST FROM cur INTO vs, vc; FETCH PRIOR FROM cur INTO vs, vc; MOVE ABSOLUTE 2 FROM cur; FETCH RELATIVE -1 FROM cur INTO vs, vc; RETURN NEXT coalesce(vs, 'NULL') || coalesce(vc, -1) || FOUND; CLOSE cur;" },
		sub { "RETURN QUERY UPDATE $full x SET v = 'rq' WHERE x.n = vi % 17 RETURNING x.v || x.n;" },
		sub { "INSERT INTO $full AS x (k, v, n) SELECT y.k, 'same', 2 FROM $full y WHERE y.n = vi % 17 ON CONFLICT (k) DO UPDATE SET n = x.n % 30 + 1; GET DIAGNOSTICS vc = ROW_COUNT; RETURN NEXT 'upserted ' || vc;" },
		sub { "EXECUTE 'DELETE FROM $full x WHERE x.k = \$1 AND x.n > 4 RETURNING x.n' INTO vc USING $key; RETURN NEXT 'gone ' || coalesce(vc, -1);" },
		sub { "PERFORM set_config('timezone', '" . $self->one_of('Asia/Tokyo', 'UTC') . "', true); RETURN NEXT (SELECT min(x.k)::text FROM ${p}ts x WHERE x.n = vi % 9);" },
		sub { "IF vi % 2 = 0 THEN RETURN NEXT 'even'; " . $self->piece(0) . " ELSIF EXISTS (SELECT FROM $full x WHERE x.n = vi) THEN " . $self->piece(0) . ' END IF;' });
	push @forms, (
		sub { 'BEGIN ' . $self->piece($depth - 1) . " INSERT INTO $full (k, v) SELECT x.k, 'dup' FROM $full x WHERE x.n = vi % 12;" . " EXCEPTION WHEN unique_violation THEN RETURN NEXT 'duplicate'; " . $self->piece(0) . ' END;' },
		sub { 'BEGIN BEGIN ' . $self->piece($depth - 1) . " RAISE EXCEPTION USING ERRCODE = 'XX009'; EXCEPTION WHEN division_by_zero THEN RETURN NEXT 'no'; END; EXCEPTION WHEN SQLSTATE 'XX009' THEN " . $self->piece(0) . ' END;' },
		sub { "FOR vr IN SELECT x.n FROM $full x WHERE x.n < 8 ORDER BY x.k LOOP BEGIN vi := vr.n; " . $self->piece($depth - 1) . " IF vr.n % 2 = 0 THEN RAISE division_by_zero; END IF; EXCEPTION WHEN division_by_zero THEN vw := vr.n; END; END LOOP;" }) x 2 if $depth > 0;
	return $self->one_of(@forms)->();
}

# A procedure that ends transactions in a loop over rows.
sub committed
{
	my ($self) = @_;
	my $table = $self->one_of(qw(int txt num dom ts));
	my $full = "$self->{prefix}$table";
	my $end = $self->one_of('COMMIT;', 'COMMIT;', 'ROLLBACK;', 'IF c % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;', 'COMMIT AND CHAIN;');
	my $change = $self->one_of("UPDATE $full x SET n = coalesce(x.n, 0) % 40 + 1 WHERE x.k = r.k", "DELETE FROM $full x WHERE x.k = r.k AND x.n > 5", ($self->change)[0], "UPDATE $self->{prefix}pair x SET m = x.m + r.n WHERE x.k = r.n");
	return "DO \$body\$ DECLARE r record; c int := 0; BEGIN FOR r IN SELECT k, n FROM $full WHERE n < " . (4 + $self->upto(12)) . " ORDER BY k LOOP c := c + 1; $change; $end END LOOP; END \$body\$;\n"
	  . "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $full x";
}

sub statement
{
	my ($self, $prefix) = @_;
	local $self->{prefix} = $prefix // 'd_';
	my @all = ((sub { $self->view_query }) x 2, (sub { $self->view_change }) x 3, (sub { $self->called }) x 3, (sub { $self->whole_rows }) x 3, (sub { $self->moved_keys }) x 2,
		(sub { $self->transaction }) x 3, (sub { $self->scrolled }) x 1, (sub { $self->limited }) x 2, (sub { $self->with_temporary }) x 2, (sub { $self->procedural }) x 3, (sub { $self->committed }) x 1);
	return $self->one_of(@all)->();
}

1;
