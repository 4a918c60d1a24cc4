=pod

=head1 NAME

RandomScripts - random work of clients on RandomSql's tables

=head1 SYNOPSIS

  my $r = RandomScripts->new(4711);
  my @scripts = map { $r->statement } 1 .. 100;

Where RandomSql makes statements, this makes what is around them: COPY of random
rows, one statement again and again with other values while something changes
between, and functions and procedures of several steps.

=cut

package RandomScripts;

use strict;
use warnings;
use RandomSql;
our @ISA = qw(RandomSql);

my %copied = (v => 'text', n => 'int', m => 'numeric', t => 'timestamptz', j => 'jsonb', r => 'int[]', e => 'mood', w => 'word',
	i => 'int4range', x => 'nocase', b => 'bytea', d => 'interval', a => 'text[]', u => 'numrange');

# roles: those that its sessions may become, if any.
sub new
{
	my ($class, $seed, @roles) = @_;
	my $self = RandomSql::new($class, $seed);
	$self->{roles} = \@roles if @roles;
	return $self;
}

# A value as a type's output function gives it, or as people write it; undef is NULL.
sub raw
{
	my ($self, $type) = @_;
	my $i = $self->upto(45);
	return undef if $self->chance(10);
	my %forms = (
		text => sub { $self->one_of("v$i", '', "a\tb", "back\\slash", 'quo"te', "two\nlines", "comma, $i", "  spaces  ", "\x{c3}\x{a9}t\x{c3}\x{a9}", 'NULL', '\\N', "cr\rx") },
		int => sub { $self->one_of($i, " $i ", "+$i") }, numeric => sub { $self->one_of($i / 4, "${i}e-1", "$i.12345") },
		timestamptz => sub { sprintf $self->one_of('2024-01-%02d 03:00+00', '2024-02-%02dT10:00:00.123456Z', '%d Mar 2024 12:00'), 1 + $i % 28 },
		jsonb => sub { $self->one_of(qq({"a": $i}), qq(["x\\ty", null, $i]), '"s"', 'null') },
		'int[]' => sub { $self->one_of("{$i,NULL,3}", '{}', "[0:1]={1,$i}", '{{1,2},{3,4}}') }, mood => sub { $self->one_of('low', 'fair', 'high') },
		word => sub { "w$i" }, int4range => sub { $self->one_of("[$i,50)", 'empty', "($i,)") }, nocase => sub { $self->one_of('x', 'X') . $i % 5 },
		bytea => sub { $self->one_of('\\x00ff5c', '\\x', 'abc\\\\d\\001') }, interval => sub { $self->one_of("$i days -02:03:04.5", 'P1Y2M3DT4H', "$i mons") },
		'text[]' => sub { $self->one_of('{a,NULL,"b,\\"c"}', '{}', "{v$i}") }, numrange => sub { $self->one_of("[0.5,$i.5]", 'empty', '(,)') });
	return $forms{$type}->();
}

# The key of a row that nothing else makes, as text.
sub raw_key
{
	my ($self, $table) = @_;
	my $i = 20000 + ++$self->{copied};
	return { txt => "copied $i", num => $i / 4, ts => sprintf('%d-%02d-%02d 12:00+00', 2100 + $i / 336 % 800, 1 + $i / 28 % 12, 1 + $i % 28),
		pair => $i % 13 }->{$table} // $i, $table eq 'pair' ? $i : ();
}

# A line of values in a format.
sub line
{
	my ($self, $csv, $delimiter, @values) = @_;
	return join($delimiter, map {
		my $v = $_;
		if ($csv && defined $v) { $v = '"' . $v =~ s/"/""/gr . '"' if $v eq '' || $v eq '\\.' || $v =~ /["\n\r]|\Q$delimiter\E/ || $self->chance(20); }
		elsif (defined $v) { $v =~ s/\\/\\\\/g; $v =~ s/\n/\\n/g; $v =~ s/\t/\\t/g; $v =~ s/\r/\\r/g; $v =~ s/\Q$delimiter\E/\\$delimiter/g; }
		$v // ($csv ? '' : '\\N')
	} @values) . "\n";
}

# Rows of a COPY, of which at most one is wrong.
sub copy_from
{
	my ($self, $n, $right) = @_;
	my $table = $self->one_of(qw(int txt num dom ts pair));
	my @key = $table eq 'pair' ? qw(k k2) : 'k';
	my @columns = grep { $self->chance(35) } sort keys %copied;
	push @columns, $self->one_of(qw(v n m)) unless @columns;
	my %seen;
	@columns = grep { !$seen{$_}++ } @columns;
	my $csv = $self->chance(45);
	my $delimiter = $csv ? $self->one_of(',', ',', ';', '|') : $self->one_of("\t", "\t", '|');
	my @options = $csv ? 'FORMAT csv' : ();
	push @options, "DELIMITER '$delimiter'" if $delimiter !~ /[,\t]/;
	my $header = $csv && $self->chance(30);
	push @options, 'HEADER' if $header;
	push @options, 'FORCE_NULL (' . $self->one_of(@columns) . ')' if $csv && $self->chance(10);
	push @options, 'FORCE_NOT_NULL (v)' if $csv && $seen{v} && $self->chance(10);
	$n //= $self->one_of(0, 1, 2, 5, 30, 700, 1500);
	my $wrong = !$right && $self->chance(35) && $n ? $self->upto($n) : -1;
	my @shift = map { $self->upto(scalar @columns + 1) } @key;
	my $text = '';
	my @first;
	for my $i (0 .. $n - 1)
	{
		my @k = $self->raw_key($table);
		@first = @k unless @first;
		my @values = map { $self->raw($copied{$_}) } @columns;
		my @row = (@k, @values);
		if ($i == $wrong)
		{
			my $at = @key + $self->upto(scalar @columns);
			my $what = $self->upto(7);
			my ($type) = $copied{ $columns[ $at - @key ] };
			$row[$at] = { int => 'abc', numeric => '1e30', timestamptz => '2024-13-01', jsonb => '{', 'int[]' => '{1', mood => 'none', word => 'x' x 30, int4range => '[9,1)',
				bytea => '\\xzz', interval => '1 foo', 'text[]' => '{"', numrange => '[a' }->{$type} // "no\0" if $what < 2;
			$row[$at] =~ s/\0/\x{ff}/ if defined $row[$at];
			push @row, 'more' if $what == 2;
			pop @row if $what == 3;
			$row[0] = undef if $what == 4;
			@row[ 0 .. $#key ] = @first if $what == 5;
			$row[$at] = '5000' if $what == 6 && $type eq 'int';
		}
		$text .= $self->line($csv, $delimiter, @row);
	}
	$text = $self->line($csv, $delimiter, @key, @columns) . $text if $header;
	my $where = $self->chance(10) ? " WHERE $key[-1] IS DISTINCT FROM " . ($table eq 'txt' ? "'copied 20004'" : $table eq 'ts' ? "'2100-01-04'" : 20007) : '';
	my $list = ' (' . join(', ', @key, @columns) . ')';
	return "COPY $self->{prefix}$table$list FROM stdin" . (@options ? ' WITH (' . join(', ', @options) . ')' : '') . "$where;\n$text\\.\n"
	  . "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $self->{prefix}$table x";
}

# Rows of a COPY are gone again.
sub copied
{
	my ($self) = @_;
	my $sql = $self->chance(70) ? $self->copy_from : $self->several_copies;
	my ($full) = $sql =~ /^.*?COPY (\w+)/s;
	my ($table) = $full =~ /_(\w+)$/;
	my $of = { txt => "k LIKE 'copied%'", num => 'k >= 5000', ts => "k >= '2100-01-01'", pair => 'k2 >= 20000' }->{$table} // 'k >= 20000';
	return "$sql;\nDELETE FROM $full WHERE $of;\nSELECT count(*) FROM $full";
}

# In one transaction, with what has gone wrong undone.
sub several_copies
{
	my ($self) = @_;
	my @steps = ('BEGIN', $self->copy_from(1 + $self->upto(40), $self->chance(85)));
	my ($table) = $steps[1] =~ /COPY \w+?_(\w+)/;
	my $again = sub { my $sql; do { $sql = $self->copy_from(@_) } until $sql =~ /^COPY \w+?_$table\b/; $sql };
	push @steps, $again->($self->one_of(3, 20, 900), $self->chance(85)) if $self->chance(50);
	push @steps, ($self->change($table))[0] if $self->chance(40);
	push @steps, 'SAVEPOINT s', $again->(1 + $self->upto(20)), $self->one_of('ROLLBACK TO s', 'ROLLBACK TO s', 'RELEASE s');
	push @steps, $again->(2) if $self->chance(40);
	return join ";\n", @steps, $self->one_of('COMMIT', 'COMMIT', 'ROLLBACK');
}

sub copy_to
{
	my ($self) = @_;
	my ($sql) = $self->chance(70) ? $self->query : ($self->change)[0];
	$sql .= ' RETURNING *' if $sql =~ /^(?:UPDATE|DELETE)/;
	$sql .= ' RETURNING v, n, g' if $sql =~ /^INSERT/;
	return "COPY ($sql) TO stdout" . $self->one_of('', ' WITH (FORMAT csv)', ' WITH (FORMAT csv, HEADER, FORCE_QUOTE *)', " WITH (NULL 'none', DELIMITER '|')");
}

# What may come between two executions of a statement.
sub between
{
	my ($self, $table, $block) = @_;
	local $self->{parameters} = undef;
	local $self->{few} = undef;
	my $full = "$self->{prefix}$table";
	my $column = 'y' . ++$self->{columns};
	return $self->one_of('SET ROLE ' . $self->one_of(@{ $self->{roles} }), "SET app.hidden = '" . $self->upto(7) . "'") if $self->{roles} && $self->chance(60);
	return $self->one_of(
		(sub { (split /;\n/, $self->settings)[0] }) x 4, sub { 'SET plan_cache_mode = ' . $self->one_of(qw(auto force_generic_plan force_custom_plan)) },
		sub { 'DISCARD PLANS' }, sub { ($self->change($table))[0] }, sub { "UPDATE $full SET n = coalesce(n, 0) % 40 + 1, b = b || '\\x01' WHERE $full.n < " . $self->upto(20) },
		# DDL is not done in savepoints
		$block ? () : (sub { "ANALYZE $full" }, sub { 'SET enable_' . $self->one_of(qw(indexscan seqscan bitmapscan)) . ' = ' . $self->one_of('on', 'off') },
		sub { "ALTER TABLE $full ADD COLUMN $column int DEFAULT " . $self->upto(9) . ";\nALTER TABLE $full DROP COLUMN $column" },
		sub { "CREATE INDEX ${full}_$column ON $full (n, v);\nDROP INDEX ${full}_$column" },
		sub { "ALTER TABLE $full ALTER COLUMN v SET DEFAULT 'd$column'" },
		sub { "ALTER TABLE $full ADD CONSTRAINT c$column CHECK (m < 900000);\nALTER TABLE $full DROP CONSTRAINT c$column" },
		sub { "BEGIN;\nALTER TABLE $full ALTER COLUMN w TYPE varchar(21);\nROLLBACK" }))->();
}

# Of the keys that are asked for here some are asked for often.
sub key_value
{
	my ($self, $table) = @_;
	return $self->SUPER::key_value($table) unless $self->{few};
	my @values = map { my $i = $self->one_of(@{ $self->{few} });
		$self->chance(6) ? 'NULL' : $self->chance(8) && $table !~ /txt|ts/ ? $self->one_of("'$i'", "$i.0", "$i\::bigint", "$i\::smallint") : RandomSql::key_of($table, $i) } 1 .. 12;
	@values = map { s/^(\d+) % 13, .*/$1 % 13/r } @values;
	push @{ $self->{parameters} }, { type => { small => 'int' }->{ RandomSql::key_type($table) } // RandomSql::key_type($table), values => \@values };
	return '$' . @{ $self->{parameters} };
}

# A statement about a row that its key tells, or one to insert, with parameters.
sub of_a_row
{
	my ($self, $table) = @_;
	my $full = "$self->{prefix}$table";
	my $alias = $self->name('a');
	my $scope = [ $self->scope($table, $alias) ];
	my $where = "$alias.k = " . $self->key_value($table) . ($table eq 'pair' ? " AND $alias.k2 = " . $self->literal('int') : '')
	  . ($self->chance(40) ? ' AND ' . $self->condition($scope, 1) : '');
	my $what = $self->upto(100);
	return 'SELECT ' . join(', ', map { $self->shown($self->one_of(qw(int text numeric timestamptz jsonb int[] mood bytea interval text[] numrange)), $scope, 2) } 1 .. 1 + $self->upto(3))
	  . " FROM $full $alias WHERE $where" . $self->one_of(('') x 6, ' LIMIT ' . $self->literal('int'), ' FOR UPDATE', ' ORDER BY 1') if $what < 45;
	return "UPDATE $full $alias SET " . $self->assignments($scope, 1) . " WHERE $where" . $self->returning($scope) if $what < 70;
	return "DELETE FROM $full $alias WHERE $where" . $self->returning($scope) if $what < 78;
	my @columns = grep { $self->chance(40) } qw(v n m t j r e b d a u);
	my $values = join ', ', $self->key_value($table), ($table eq 'pair' ? $self->literal('int') : ()), map { $self->literal({ v => 'text', n => 'int', m => 'numeric', t => 'timestamptz', j => 'jsonb',
		r => 'int[]', e => 'mood', b => 'bytea', d => 'interval', a => 'text[]', u => 'numrange' }->{$_}) } @columns;
	my $target = $table eq 'pair' ? 'k, k2' : 'k';
	my $set = join ', ', map { "$_ = " . $self->one_of("excluded.$_", "coalesce(excluded.$_, $alias.$_)", "$alias.$_") } @columns ? @columns : 'v';
	return "INSERT INTO $full AS $alias (" . join(', ', split(/, /, $target), @columns) . ") VALUES ($values)"
	  . $self->one_of('', " ON CONFLICT ($target) DO NOTHING", (" ON CONFLICT ($target) DO UPDATE SET $set" . $self->one_of('', " WHERE $alias.n IS DISTINCT FROM " . $self->literal('int'))) x 3)
	  . $self->one_of('', " RETURNING $alias.k, n, v", " RETURNING $alias.g, coalesce($alias.v, " . $self->literal('text') . ')');
}

# The same again with other values, in its text, prepared, or as a function's variables.
sub repeated
{
	my ($self) = @_;
	my $table = $self->one_of(qw(int txt num dom ts pair));
	local $self->{parameters} = [];
	local $self->{few} = [ map { 1 + $self->upto(45) } 1 .. 2 ];
	my $sql = $self->of_a_row($table);
	my @p = @{ $self->{parameters} };
	my @values = map { my $i = $_; [ map { $_->{values}[ $i % @{ $_->{values} } ] } @p ] } 0 .. 13;
	my $filled = sub { my $v = $_[0]; $sql =~ s/\$(\d+)/$v->[$1 - 1]/gr };
	my $name = $self->name('p');
	my $types = @p ? '(' . join(', ', map { $_->{type} } @p) . ')' : '';
	my $call = sub { @p ? '(' . join(', ', @{ $_[0] }) . ')' : '()' };
	my $form = $self->upto(4);
	my @steps;
	push @steps, "PREPARE $name$types AS $sql" if $form == 1;
	push @steps, $self->of_parameters("pg_temp.$name", $sql, @p) if $form == 2;
	for my $v (@values)
	{
		push @steps, $self->between($table, $form == 3) if $self->chance(22);
		push @steps, $self->one_of('BEGIN', 'SAVEPOINT s') if $form == 3 && $self->chance(25);
		push @steps, $form == 1 ? "EXECUTE $name" . (@p ? $call->($v) : '') : $form == 2 ? "SELECT * FROM pg_temp.$name" . $call->($v) : $filled->($v);
		push @steps, $self->one_of('COMMIT', 'ROLLBACK', 'ROLLBACK TO s', 'ROLLBACK TO s') if $form == 3 && $self->chance(25);
	}
	push @steps, 'COMMIT' if $form == 3;
	push @steps, "DEALLOCATE $name" if $form == 1;
	return join ";\n", @steps, "RESET ALL;\nSET timezone = 'UTC';\nSET client_min_messages = error", "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $self->{prefix}$table x";
}

# A function with a statement, whose parameters are its own.
sub of_parameters
{
	my ($self, $name, $sql, @p) = @_;
	$sql =~ s/\bv (?==)/v /g;
	my $returns = $sql =~ /^SELECT|RETURNING/;
	my $body = $returns && ($sql =~ /^INSERT/ || $self->chance(60)) ? "FOR r IN $sql LOOP RETURN NEXT r::text; END LOOP;" : $returns ? "RETURN QUERY WITH w AS ($sql) SELECT w::text FROM w;" : "$sql;";
	my $dynamic = $self->chance(25);
	my $using = @p ? ' USING ' . join(', ', map { "\$$_" } 1 .. @p) : '';
	$body = ($returns ? "FOR r IN EXECUTE \$sql\$ $sql \$sql\$$using LOOP RETURN NEXT r::text; END LOOP;" : "EXECUTE \$sql\$ $sql \$sql\$$using;") if $dynamic;
	my $caught = $self->chance(30);
	return "CREATE FUNCTION $name(" . join(', ', map { $_->{type} } @p) . ") RETURNS SETOF text LANGUAGE plpgsql AS \$body\$ #variable_conflict use_column\nDECLARE r record; c bigint; BEGIN "
	  . ($caught ? 'BEGIN ' : '') . "$body RETURN NEXT FOUND::text; GET DIAGNOSTICS c = ROW_COUNT; RETURN NEXT c::text;"
	  . ($caught ? ' EXCEPTION WHEN others THEN RETURN NEXT SQLSTATE; END;' : '') . ' END $body$';
}

# A piece of a PL/pgSQL function that returns texts: its variables are i, c, s, r, a.
sub piece
{
	my ($self, $depth) = @_;
	my $table = $self->one_of(qw(int txt num dom ts));
	my $full = "$self->{prefix}$table";
	my $key = RandomSql::key_of($table, '(vi % 45)');
	my $change = ($self->change)[0];
	my @forms = (
		sub { "$change; GET DIAGNOSTICS vc = ROW_COUNT; RETURN NEXT 'rows ' || vc || FOUND;" },
		sub { "EXECUTE \$q\$$change\$q\$; GET DIAGNOSTICS vc = ROW_COUNT; RETURN NEXT 'dynamic ' || vc || FOUND;" },
		sub { "SELECT x.v, x.n INTO vs, vc FROM $full x WHERE x.k = $key; RETURN NEXT coalesce(vs, 'NULL') || coalesce(vc, -1) || FOUND;" },
		sub { "SELECT x.n INTO STRICT vc FROM $full x WHERE " . $self->one_of("x.k = $key", "x.n = vi % 9") . "; RETURN NEXT 'strict ' || coalesce(vc, -1);" },
		sub { "UPDATE $full x SET n = coalesce(x.n, 0) % 40 + vi % 5, v = coalesce(vs, x.v) WHERE x.k = $key RETURNING x.v, x.n INTO vs, vc; RETURN NEXT coalesce(vs, 'NULL') || coalesce(vc, -1) || FOUND;" },
		sub { "INSERT INTO $full AS x (k, v, n) VALUES ($key, vs, vi % 50)" . $self->one_of('', ' ON CONFLICT (k) DO NOTHING', ' ON CONFLICT (k) DO UPDATE SET n = excluded.n, v = coalesce(excluded.v, x.v)')
			  . " RETURNING x.n INTO vc; RETURN NEXT coalesce(vc, -1) || ' ' || FOUND;" },
		sub { "DELETE FROM $full x WHERE x.k = $key AND x.n > 3; GET DIAGNOSTICS vc = ROW_COUNT; RETURN NEXT 'deleted ' || vc;" },
		sub { "INSERT INTO $full (k, v, n) VALUES (" . $self->one_of("$key, 'x', 5000", 'NULL, vs, 3', "$key, vs, vi / (vi - vi)") . ');' },
		sub { "PERFORM 1 FROM $full x WHERE x.n = vi % 20; RETURN NEXT 'perform ' || FOUND;" },
		sub { "EXECUTE format('SELECT count(*), max(x.v COLLATE \"C\") FROM %s x WHERE x.n < \$1', 'public.$full'::regclass) INTO vc, vs USING vi % 25; RETURN NEXT vc || coalesce(vs, 'NULL');" },
		sub { "EXECUTE format('UPDATE %s x SET n = %L WHERE x.n = \$1 AND x.m > %L', 'public.$full'::regclass, vi % 40, 2) USING vc % 20; GET DIAGNOSTICS vc = ROW_COUNT; RETURN NEXT 'formatted ' || vc;" },
		sub { my ($q, @types) = $self->select([], 1); "RETURN QUERY SELECT q::text FROM ($q) q; RETURN NEXT 'query ' || FOUND;" },
		sub { "RETURN QUERY EXECUTE 'SELECT x.v FROM $full x WHERE x.k = \$1' USING $key; GET DIAGNOSTICS vc = ROW_COUNT; RETURN NEXT 'rows ' || vc;" },
		sub { "SELECT array_agg(x.n ORDER BY x.k) INTO va FROM $full x WHERE x.n % 6 = vi % 6; FOREACH vc IN ARRAY coalesce(va, '{}') LOOP UPDATE $full x SET m = x.m + 1 WHERE x.n = vc; END LOOP; RETURN NEXT va::text;" },
		sub { "OPEN cur FOR SELECT x.v, x.n FROM $full x WHERE x.n < vi % 30 ORDER BY x.k; FETCH cur INTO vs, vc; MOVE FORWARD 2 FROM cur; FETCH cur INTO vs, vc; RETURN NEXT coalesce(vs, 'NULL') || coalesce(vc, -1) || FOUND; CLOSE cur;" });
	push @forms, (
		sub { "FOR vi IN 1 .. " . (1 + $self->upto(9)) . ' LOOP ' . $self->piece($depth - 1) . ' END LOOP;' },
		sub { "FOR vr IN SELECT x.n, x.v FROM $full x WHERE x.n IS NOT NULL AND x.n < 12 ORDER BY x.k LOOP vi := vr.n; " . $self->piece($depth - 1) . ' END LOOP;' },
		sub { 'BEGIN ' . $self->piece($depth - 1) . ' ' . $self->one_of('', "RAISE division_by_zero;", 'PERFORM 1 / (vi - vi);', $self->piece($depth - 1))
			  . ' EXCEPTION WHEN ' . $self->one_of('others', 'unique_violation OR division_by_zero', 'SQLSTATE \'23505\'', 'data_exception', 'others', 'others')
			  . " THEN GET STACKED DIAGNOSTICS vs = RETURNED_SQLSTATE; RETURN NEXT 'caught ' || vs; " . $self->one_of('', $self->piece(0)) . ' END;' },
		sub { 'IF EXISTS ' . "(SELECT FROM $full x WHERE x.k = $key AND x.n > vc) THEN " . $self->piece($depth - 1) . ' ELSE ' . $self->piece($depth - 1) . ' END IF;' },
		sub { "vw := 0; WHILE (SELECT count(*) FROM $full x WHERE x.n = vi) > 0 AND vw < 9 LOOP vw := vw + 1; vi := vi + 1; " . $self->piece(0) . ' END LOOP;' }) x 2 if $depth > 0;
	return $self->one_of(@forms)->();
}

sub procedural
{
	my ($self) = @_;
	my $name = 'pg_temp.' . $self->name('f');
	my $declare = "DECLARE vi int := 1; vw int; vc bigint := 3; vs text; vr record; va int[]; cur refcursor;";
	my $body = join ' ', map { $self->piece(2) } 1 .. 2 + $self->upto(3);
	my $set = $self->one_of('', '', '', ' SET plan_cache_mode = force_generic_plan', ' SET enable_indexscan = off');
	my $function = "CREATE FUNCTION $name() RETURNS SETOF text LANGUAGE plpgsql$set AS \$body\$ $declare BEGIN $body END \$body\$";
	if ($self->chance(25))
	{
		# a procedure has no result, but ends transactions
		$body = join ' ', map { my $p = $self->piece(1); $p . $self->one_of('', ' COMMIT;', ' ROLLBACK;') } 1 .. 3;
		$body =~ s/RETURN NEXT (.*?);/RAISE NOTICE '%', $1;/g;
		$body =~ s/RETURN QUERY EXECUTE ('.*?') USING (.*?);/EXECUTE $1 INTO vs USING $2;/g;
		$body =~ s/RETURN QUERY (.*?);/PERFORM count(*) FROM ($1) z;/g;
		return "SET client_min_messages = notice;\nCREATE PROCEDURE $name() LANGUAGE plpgsql AS \$body\$ $declare BEGIN $body END \$body\$;\nCALL $name();\nCALL $name();\nSET client_min_messages = error";
	}
	return join ";\n", $function, ("SELECT * FROM $name()") x 2, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM $self->{prefix}" . $self->one_of(qw(int txt num dom ts)) . ' x';
}

sub statement
{
	my ($self, $prefix) = @_;
	local $self->{prefix} = $prefix // 'd_';
	my $what = $self->upto(100);
	return $what < 30 ? $self->copied : $what < 40 ? $self->copy_to : $what < 75 ? $self->repeated : $self->procedural;
}

1;
