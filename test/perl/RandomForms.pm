=pod

=head1 NAME

RandomForms - rarer statements for RandomSql, which inherits them

=cut

package RandomForms;

use strict;
use warnings;

# What tells a table's rows apart, to order by.
sub unique
{
	my ($self, $scope) = @_;
	return join ', ', grep { /\.k2?$/ } map { $_->[0] } @$scope;
}

# An expression that is no constant, so that it can be named again.
sub named_value
{
	my ($self, $type, $scope) = @_;
	my $e = $self->expression($type, $scope, 1);
	return { int => "coalesce($e, 7)", text => "coalesce($e, '-')", mood => "coalesce($e, 'fair')" }->{$type};
}

sub where
{
	my ($self, $table, $alias, $scope) = @_;
	return $self->chance(20) ? '' : ' WHERE ' . ($self->chance(70) ? $self->condition($scope, 1) : $self->pinned($table, $alias, $scope));
}

sub window
{
	my ($self, $scope) = @_;
	my $x = sub { $self->expression('int', $scope, 1) };
	my $by = $self->chance(60) ? 'PARTITION BY ' . $self->named_value($self->one_of(qw(int text mood)), $scope) . ' ' : '';
	my $filter = $self->chance(25) ? ' FILTER (WHERE ' . $self->condition($scope, 1) . ')' : '';
	my $sum = $self->one_of('sum', 'count', 'max') . '(' . $x->() . ")$filter";
	my $exclude = $self->one_of('', '', ' EXCLUDE GROUP', ' EXCLUDE TIES', ' EXCLUDE CURRENT ROW');
	return $self->one_of(
		# rows that are equal in their order are so in their result
		sub { $self->one_of('rank()', 'dense_rank()') . " OVER ($by" . 'ORDER BY ' . $x->() . ')' },
		sub { "round((percent_rank() OVER ($by" . 'ORDER BY ' . $x->() . '))::numeric, 3)' },
		sub { "$sum OVER ($by" . 'ORDER BY ' . $x->() . $self->one_of('', ' GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING', ' RANGE BETWEEN 2 PRECEDING AND 3 FOLLOWING',
				' RANGE UNBOUNDED PRECEDING') . ')' },
		sub { $self->one_of('row_number()', 'ntile(3)', 'lag(' . $x->() . ')', 'lead(' . $x->() . ', 2)', 'first_value(' . $x->() . ')', 'nth_value(' . $x->() . ', 2)')
			  . " OVER ($by" . 'ORDER BY ' . $x->() . $self->one_of('', ' DESC', ' DESC NULLS LAST') . ', ' . $self->unique($scope) . ')' },
		sub { "$sum OVER ($by" . 'ORDER BY ' . $self->unique($scope) . ' ROWS BETWEEN ' . $self->one_of('UNBOUNDED', '2') . " PRECEDING AND 1 FOLLOWING$exclude)" })->();
}

sub windows
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my @over = map { $self->window($scope) . " AS w$_" } 1 .. 1 + $self->upto(2);
	@over = ("sum(" . $self->expression('int', $scope, 1) . ') OVER w AS w1', 'count(*) OVER (w RANGE UNBOUNDED PRECEDING) AS w2') if (my $shared = $self->chance(15));
	my $sql = 'SELECT ' . join(', ', $self->shown('text', $scope, 1) . ' AS c1', @over) . " FROM $from" . $self->where($table, $alias, $scope)
	  . ($shared ? ' WINDOW w AS (ORDER BY ' . $self->expression('int', $scope, 1) . ')' : '');
	return $self->chance(30) ? "SELECT * FROM ($sql) q WHERE w1 < " . (2 + $self->upto(5)) : $sql;
}

sub distinct_on
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my @on = map { $self->named_value($self->one_of(qw(int text mood)), $scope) } 1 .. 1 + $self->upto(2);
	@on = map { /^coalesce\(.*'-'\)$/ ? "($_) COLLATE \"C\"" : $_ } @on;
	my $on = join ', ', @on;
	return "SELECT DISTINCT ON ($on) " . join(', ', @on, $self->shown('text', $scope, 1)) . ", $alias.n FROM $from" . $self->where($table, $alias, $scope)
	  . " ORDER BY $on, " . $self->one_of('', $self->expression('int', $scope, 1) . $self->one_of('', ' DESC', ' NULLS FIRST') . ', ') . $self->unique($scope)
	  . ($self->chance(30) ? ' LIMIT ' . (1 + $self->upto(6)) : '');
}

sub grouping_sets
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my @by = map { $self->named_value($_, $scope) } $self->one_of(qw(int mood)), $self->one_of(qw(int text));
	return $self->query if $by[0] eq $by[1];
	my $sets = $self->one_of("ROLLUP ($by[0], $by[1])", "CUBE ($by[0], $by[1])", "GROUPING SETS (($by[0]), ($by[1]), ())", "$by[0], ROLLUP ($by[1])",
		"DISTINCT ROLLUP ($by[0]), CUBE ($by[1])");
	return "SELECT $by[0] AS c1, $by[1] AS c2, grouping($by[0], $by[1]) AS c3, " . $self->aggregate($scope) . ', ' . $self->aggregate($scope) . " FROM $from"
	  . $self->where($table, $alias, $scope) . " GROUP BY $sets" . ($self->chance(30) ? " HAVING count(*) > 1 OR grouping($by[1]) = 1" : '');
}

# Of rows in any order, or in one that is given.
sub aggregate
{
	my ($self, $scope) = @_;
	my $order = $self->unique($scope);
	my $filter = $self->chance(30) ? ' FILTER (WHERE ' . $self->condition($scope, 1) . ')' : '';
	my $x = sub { $self->expression($_[0], $scope, 1) };
	return $self->one_of(
		sub { 'count(DISTINCT ' . $x->($self->one_of(qw(int text mood nocase))) . ')' }, sub { 'array_agg(' . $x->('int') . " ORDER BY $order)" },
		sub { 'string_agg(' . $x->('text') . ", ',' ORDER BY $order)" }, sub { 'jsonb_agg(' . $x->('jsonb') . " ORDER BY $order)" },
		sub { 'bool_or(' . $self->condition($scope, 1) . ')' }, sub { 'max(' . $x->('mood') . ')' }, sub { 'round(avg(' . $x->('int') . '), 3)' },
		sub { 'round(variance(' . $x->('int') . '), 3)' }, sub { 'range_agg(' . $x->('int4range') . ')' },
		sub { 'array_agg(DISTINCT ' . $x->('int') . ')' })->() . $filter if $self->chance(80);
	return 'percentile_disc(0.5) WITHIN GROUP (ORDER BY ' . $x->('int') . ')' . $filter;
}

sub aggregates
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my $by = $self->chance(50) ? $self->named_value($self->one_of(qw(int text mood)), $scope) : undef;
	return 'SELECT ' . join(', ', ($by ? "$by AS c1" : ()), map { $self->aggregate($scope) } 1 .. 1 + $self->upto(3)) . " FROM $from"
	  . $self->where($table, $alias, $scope) . ($by ? " GROUP BY $by" : '');
}

sub lateral
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my ($other, $more, $kind, $name) = $self->table($self->chance(50) ? $table : undef);
	my $q = $self->name('q');
	my @by = grep { $_ } $self->unique($more);
	my $join = $self->one_of('LEFT JOIN LATERAL', 'JOIN LATERAL');
	my $rows = $self->one_of("(SELECT $name.n AS c1, $name.v AS c2 FROM $other WHERE " . $self->one_of("$name.n = $alias.n", "$name.v = $alias.v", $self->condition([ @$more, @$scope ], 1))
		  . " ORDER BY $name.m, @by LIMIT 2)", "(SELECT $name.n AS c1, $name.v AS c2 FROM $other WHERE $name.k = " . $self->key_value($kind) . " AND $name.n < $alias.n)",
		"(SELECT max($name.n) AS c1, count(*) AS c2 FROM $other WHERE $name.n < $alias.n)", "(SELECT $alias.n + 1 AS c1, upper($alias.v) AS c2)");
	$rows = $self->one_of("unnest($alias.r) WITH ORDINALITY", "jsonb_each_text($alias.j)", "ROWS FROM (generate_series(1, $alias.n % 4), unnest($alias.r))") if $self->chance(30);
	return 'SELECT ' . join(', ', "$q.c1", "$q.c2", $self->shown('text', $scope, 1)) . " FROM $from $join $rows $q(c1, c2) ON " . $self->one_of('true', 'true', "$q.c2 IS NOT NULL")
	  . ' WHERE ' . $self->one_of($self->condition($scope, 1), $self->pinned($table, $alias, $scope));
}

sub recursive
{
	my ($self) = @_;
	my ($start, $scope, $table, $alias) = $self->table($self->one_of(qw(int dom)));
	my ($next, $more, $kind, $name) = $self->table($self->one_of(qw(int dom int)));
	my $w = $self->name('w');
	return "WITH RECURSIVE $w(i, d) AS (SELECT $alias.n, 0 FROM $start" . $self->where($table, $alias, $scope) . $self->one_of(' UNION ', ' UNION ALL ')
	  . 'SELECT ' . $self->one_of("$name.n + 1", "$name.n", "$w.i + 1") . ", $w.d + 1 FROM $w JOIN $next ON $name.k = $w.i WHERE $w.d < 4"
	  . $self->one_of('', ' AND ' . $self->condition($more, 1)) . ') ' . $self->one_of("SELECT d, count(*), sum(i) FROM $w GROUP BY 1",
		"SELECT i, d FROM $w", "SELECT $w.d, $name.v FROM $w JOIN $next ON $name.k = $w.i");
}

sub locking
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my ($other, $more, $kind, $name) = $self->table($table);
	my $join = $self->chance(30);
	my $of = $join && $self->chance(50) ? " OF $alias" : '';
	return "SELECT $alias.n, " . $self->shown('text', $scope, 1) . " FROM $from" . ($join ? " JOIN $other ON $alias.k = $name.k" . ($table eq 'pair' ? " AND $alias.k2 = $name.k2" : '') : '')
	  . ' WHERE ' . $self->pinned($table, $alias, $scope) . ($self->chance(50) ? ' ORDER BY ' . $self->unique($scope) . ($self->chance(50) ? ' LIMIT 3' : '') : '')
	  . ' FOR ' . $self->one_of('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE') . $of . $self->one_of('', ' NOWAIT', ' SKIP LOCKED');
}

# Keys and columns that are not there, or NULL.
sub null_key
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my ($key) = grep { $_->[0] =~ /\.k$/ } @$scope;
	my $null = $self->one_of("NULL::$key->[1]", '(SELECT ' . $self->literal($key->[1]) . ' WHERE false)', "nullif(" . $self->literal($key->[1]) . ", NULL)");
	return "SELECT count(*), max($alias.n) FROM $from WHERE " . $self->one_of("$alias.k = $null", "$alias.k IS NULL", "$alias.k IN ($null, " . $self->key_value($table) . ')',
		"$alias.k NOT IN ($null, " . $self->key_value($table) . ')', "$alias.k = ANY (ARRAY[$null, " . $self->key_value($table) . '])', "$alias.k IS NOT DISTINCT FROM $null",
		"($alias.k = $null) IS NULL");
}

sub rare_query
{
	my ($self) = @_;
	return $self->one_of(
		map { my $method = $_; sub { $self->$method } } qw(windows windows distinct_on grouping_sets aggregates aggregates lateral lateral recursive locking null_key))->();
}

# A change of a table's rows that fails for none of them: text, table, alias.
sub change
{
	my ($self, $of) = @_;
	my ($from, $scope, $table, $alias) = $self->table($of);
	my $where = $self->pinned($table, $alias, $scope);
	return ("UPDATE $from SET n = $alias.g % 7, j = jsonb_build_object('a', 1) WHERE $where", $table, $alias) if $self->chance(25);
	return ("UPDATE $from SET n = n + 1, v = 'u' || left(v, 3) WHERE $where", $table, $alias) if $self->chance(40);
	return ("DELETE FROM $from WHERE $where AND $alias.n > 8", $table, $alias) if $self->chance(45);
	# keys that no other change makes
	my $more = 3000 * ++$self->{inserts};
	my $key = { int => "$alias.k + $more", dom => "$alias.k + $more", txt => "$alias.k || '+$more'", num => "$alias.k + $more", ts => "$alias.k + interval '$more days'",
		pair => "$alias.k + $more, $alias.k2" }->{$table};
	my $new = $self->name('a');
	return ("INSERT INTO $self->{prefix}$table AS $new (k, " . ($table eq 'pair' ? 'k2, ' : '') . "v, n) SELECT $key, $alias.v, $alias.n FROM $from WHERE $where", $table, $new);
}

# Several parts of a statement that change tables, often the same one, and see nothing
# of one another; what two would do to a row, the first does.
sub several_changes
{
	my ($self) = @_;
	my $table;
	my (@with, @names);
	for (1 .. 1 + $self->upto(3))
	{
		my ($sql, $of, $alias) = $self->change($self->chance(75) ? $table : undef);
		my $name = $self->name('w');
		$table //= $of;
		push @names, $name;
		push @with, "$name AS ($sql RETURNING $alias.n AS c1, $alias.v AS c2)";
	}
	my $with = 'WITH ' . join(', ', @with) . ' ';
	if ($self->chance(50))
	{
		my ($sql, $of, $alias) = $self->change($self->chance(75) ? $table : undef);
		return $with . $sql . $self->one_of('', " RETURNING $alias.n, $alias.v", " RETURNING $alias.n, (SELECT count(*) || '/' || sum(n) FROM $self->{prefix}$table)");
	}
	my $counts = join ', ', map { $self->one_of("(SELECT count(*) FROM $_)", "(SELECT sum(c1) FROM $_)", "(SELECT max(c2 COLLATE \"C\") FROM $_)") } @names;
	return $with . $self->one_of("SELECT $counts", "SELECT $counts, (SELECT count(*) || '/' || sum(n) FROM $self->{prefix}$table)", "SELECT c1, c2 FROM $names[0]",
		"SELECT x.n, x.v FROM $self->{prefix}$table x WHERE x.n < 5");
}

# An upsert of rows with these numbers, as a part of WITH, of what they give.
sub upsert_part
{
	my ($self, $table, $alias, $rows) = @_;
	my $target = $table eq 'pair' ? 'k, k2' : 'k';
	my $set = $self->one_of('n = excluded.n', "v = coalesce($alias.v, '') || excluded.v", "(n, v) = (SELECT excluded.n % 9, max(x.v COLLATE \"C\") FROM $self->{prefix}$table x WHERE x.n = excluded.n)",
		"n = (SELECT count(*) FROM $self->{prefix}$table), v = " . $self->stable_text, 'm = coalesce(excluded.m, 1)');
	return "INSERT INTO $self->{prefix}$table AS $alias ($target, v, n) $rows ON CONFLICT ($target) "
	  . $self->one_of('DO NOTHING', "DO UPDATE SET $set", "DO UPDATE SET $set WHERE " . $self->one_of("$alias.n > 3", "$alias.n IS DISTINCT FROM excluded.n"));
}

# Upserts beside others, of which none changes a row of another.
sub upserts_in_with
{
	my ($self) = @_;
	my $table = $self->one_of(qw(int txt num dom ts pair));
	my (@with, @names);
	for my $i (1 .. 1 + $self->upto(3))
	{
		my ($name, $alias) = ($self->name('w'), $self->name('a'));
		my $of = $self->chance(70) ? $table : $self->one_of(qw(int txt num dom ts pair));
		my $from = 1 + $self->upto(12);
		my $key = RandomSql::key_of($of, '(i * 4 + ' . $i % 4 . ')');
		my $rows = $self->one_of("SELECT $key, 'u' || i, i % 20 FROM generate_series($from, " . ($from + $self->upto(9)) . ') i',
			"SELECT $key, " . $self->literal('text') . '::text, ' . $self->upto(30) . " FROM generate_series($from, $from) i");
		$rows = "SELECT $key, c2, c1 % 40 FROM (SELECT c1, c2, row_number() OVER (ORDER BY c1, c2 COLLATE \"C\") AS i FROM $names[-1]) q" if @names && $self->chance(30);
		my $sql = $self->chance(80) ? $self->upsert_part($of, $alias, $rows) : $self->one_of("UPDATE $self->{prefix}$of $alias SET n = 3", "DELETE FROM $self->{prefix}$of $alias")
		  . " WHERE $alias.k IN (SELECT (" . (split /, /, $key)[0] . ") FROM generate_series(1, 11) i)" . ($of eq 'pair' ? " AND $alias.k2 % 4 = " . $i % 4 : '');
		push @names, $name;
		push @with, "$name AS ($sql RETURNING $alias.n AS c1, " . $self->one_of("$alias.v", "($alias.v || $alias.g)", "(SELECT $alias.v || count(*) FROM $self->{prefix}$of)") . ' AS c2)';
		$with[-1] =~ s/ RETURNING .*/)/, pop @names if $self->chance(15);
	}
	my $with = 'WITH ' . join(', ', @with) . ' ';
	my $alias = $self->name('a');
	return $with . $self->upsert_part($table, $alias, 'SELECT ' . RandomSql::key_of($table, '(i * 4)') . ", 'main', 7 FROM generate_series(1, 12) i") . $self->one_of('', " RETURNING $alias.n, $alias.v") if $self->chance(30);
	my $counts = join ', ', 1, map { $self->one_of("(SELECT count(*) FROM $_)", "(SELECT sum(c1) FROM $_)", "(SELECT max(c2 COLLATE \"C\") FROM $_)") } @names;
	return $with . $self->one_of("SELECT $counts", "SELECT $counts, (SELECT count(*) || '/' || sum(n) FROM $self->{prefix}$table)", @names ? "SELECT c1, c2 FROM $names[0]" : 'SELECT 1',
		"SELECT x.n, x.v FROM $self->{prefix}$table x WHERE x.n < 5");
}

# Each row has one partner, or none.
sub update_from
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my ($other, $more, $kind, $name) = $self->table;
	my $q = $self->name('q');
	my $source = $self->one_of("(SELECT $name.n AS c1, max($name.v COLLATE \"C\") AS c2 FROM $other" . $self->where($kind, $name, $more) . " GROUP BY 1) $q",
		"(VALUES (" . $self->upto(9) . ", 'a'), (" . (9 + $self->upto(9)) . ", NULL)) $q(c1, c2)",
		"(SELECT DISTINCT ON ($name.n) $name.n AS c1, $name.v AS c2 FROM $other ORDER BY $name.n, " . $self->unique($more) . ") $q");
	my $on = "$q.c1 = $alias.n" . $self->one_of('', ' AND ' . $self->pinned($table, $alias, $scope));
	return "DELETE FROM $from USING $source WHERE $on AND $alias.m > 2" . $self->one_of('', " RETURNING $alias.n, $q.c2") if $self->chance(40);
	my $with = [ @$scope, [ "$q.c1", 'int' ], [ "$q.c2", 'text' ] ];
	return "UPDATE $from SET " . $self->assignments($with, 1) . " FROM $source WHERE $on" . $self->one_of('', $self->returning($with));
}

# Rows of one fragment, in every way.
sub merges
{
	my ($self) = @_;
	my $table = $self->one_of(qw(dom int num ts txt));
	my $full = "$self->{prefix}$table";
	my $key = RandomSql::key_of($table, 1 + $self->upto(60));
	my $source = $self->one_of("(VALUES ('v1', 3), ('v2', " . $self->upto(20) . ')) s(v, n)', "(VALUES ('v1', " . $self->literal('int') . ')) s(v, n)');
	my $when = '';
	for (1 .. 1 + $self->upto(3))
	{
		my $and = $self->one_of('', " AND s.n > " . $self->upto(15));
		$when .= $self->chance(55) ? " WHEN MATCHED" . ($and && $self->one_of($and, " AND $full.n > s.n", " AND $full.v <> s.v")) . ' THEN '
		  . $self->one_of('DELETE', 'DO NOTHING', 'UPDATE SET v = s.v, n = s.n % 50', "UPDATE SET n = coalesce($full.n, 0) % 40 + 1, j = $full.j || '{\"a\": 2}'")
		  : " WHEN NOT MATCHED$and THEN " . $self->one_of('DO NOTHING', "INSERT (k, v, n) VALUES ($key, s.v, s.n % 50)", "INSERT (k, n, e) VALUES ($key, 3, 'high')");
	}
	return "MERGE INTO $full USING $source ON $full.k = $key" . $self->one_of('', '', " AND $full.n < 90") . $when;
}

sub rare_change
{
	my ($self) = @_;
	return $self->one_of(sub { $self->several_changes }, sub { $self->several_changes }, sub { $self->upserts_in_with }, sub { $self->update_from }, sub { $self->merges })->();
}

# Cursors and savepoints, with changes between.
sub savepoints
{
	my ($self) = @_;
	my ($c, $inner) = ($self->name('cursor'), $self->name('cursor'));
	my $declare = sub {
		my ($sql, @types) = $self->select([], 1);
		return "DECLARE $_[0] " . $self->one_of('', 'SCROLL ', 'NO SCROLL ') . "CURSOR FOR SELECT * FROM ($sql) x ORDER BY " . join(', ', 1 .. @types);
	};
	my @steps = ('BEGIN', $declare->($c));
	push @steps, "FETCH 2 FROM $c" if $self->chance(60);
	push @steps, 'SAVEPOINT s';
	push @steps, $declare->($inner) if $self->chance(50);
	for (1 .. 1 + $self->upto(3))
	{
		push @steps, $self->one_of("FETCH 2 FROM $c", "MOVE 1 FROM $c", "FETCH 1 FROM $inner", ($self->change)[0], ($self->change)[0]);
	}
	push @steps, $self->one_of('ROLLBACK TO s', 'RELEASE s', 'ROLLBACK TO s');
	push @steps, $self->one_of("FETCH 2 FROM $c", ($self->change)[0], "FETCH ALL FROM $c");
	push @steps, "FETCH ALL FROM $c" if $self->chance(60);
	push @steps, "FETCH ALL FROM $inner" if $self->chance(40);
	return join ";\n", @steps, 'COMMIT';
}

# A plan for all values, from the first execution on.
sub generic
{
	my ($self) = @_;
	return "SET plan_cache_mode = force_generic_plan;\n" . $self->prepared . ";\nRESET plan_cache_mode";
}

# A table of the rows of what is prepared, and its plan.
sub made_of_prepared
{
	my ($self) = @_;
	local $self->{parameters} = [];
	my ($sql, @types) = $self->select([], 1);
	my @parameters = @{ $self->{parameters} };
	my ($p, $t) = ($self->name('p'), $self->name('made'));
	my $with = sub { my $i = $_[0]; @parameters ? '(' . join(', ', map { $_->{values}[$i] } @parameters) . ')' : '' };
	return "PREPARE $p" . (@parameters ? '(' . join(', ', map { $_->{type} } @parameters) . ')' : '') . " AS $sql;\n"
	  . join('', map { "EXPLAIN (COSTS OFF) EXECUTE $p" . $with->($_) . "\n\\g /dev/null\nCREATE TEMP TABLE $t$_ AS EXECUTE $p" . $with->($_) . ";\nSELECT * FROM $t$_;\n" } 0 .. 6)
	  . "DEALLOCATE $p";
}

# Statements of a function, one after the other, the last perhaps undone.
sub steps
{
	my ($self) = @_;
	my $name = 'pg_temp.' . $self->name('f');
	my @changes = map { ($self->change)[0] } 1 .. 2;
	my ($table) = $self->one_of(qw(int txt pair));
	return "CREATE FUNCTION $name() RETURNS SETOF text LANGUAGE plpgsql AS \$body\$ DECLARE x text; r record; BEGIN $changes[0]; GET DIAGNOSTICS x = ROW_COUNT; RETURN NEXT x; "
	  . "BEGIN $changes[1]; GET DIAGNOSTICS x = ROW_COUNT; RETURN NEXT x; " . $self->one_of('', "RAISE SQLSTATE 'XX001'; ") . "EXCEPTION WHEN SQLSTATE 'XX001' THEN RETURN NEXT 'undone'; END; "
	  . "FOR r IN SELECT n, count(*) AS c FROM $self->{prefix}$table GROUP BY 1 ORDER BY 1 LIMIT 4 LOOP RETURN NEXT r; END LOOP; END \$body\$;\nSELECT * FROM $name();\nSELECT * FROM $name()";
}

sub rare_script
{
	my ($self) = @_;
	return $self->one_of(sub { $self->savepoints }, sub { $self->savepoints }, sub { $self->generic }, sub { $self->generic }, sub { $self->made_of_prepared }, sub { $self->steps })->();
}

1;
