=pod

=head1 NAME

RandomSql - random statements whose answer does not depend on plans

=head1 SYNOPSIS

  my $r = RandomSql->new(4711);
  print RandomSql::tables('d_'), RandomSql::rows('d_');
  my @statements = map { $r->statement } 1 .. 100;

Statements over a few tables with keys of several types.  They may fail, but each
in one way only; what they return depends on no order of rows, no time and no
chance.

=cut

package RandomSql;

use strict;
use warnings;
use RandomForms;
use RandomSettings;
our @ISA = qw(RandomForms RandomSettings);

# Columns: key first; then those that all tables have.
my %key = (int => 'int', txt => 'text', num => 'numeric', dom => 'small', ts => 'timestamptz', pair => 'int');
my @tables = sort keys %key;
my %columns = (v => 'text', n => 'int', m => 'numeric', t => 'timestamptz', j => 'jsonb', r => 'int[]',
	e => 'mood', w => 'text', i => 'int4range', x => 'nocase', g => 'int', b => 'bytea', d => 'interval', a => 'text[]', u => 'numrange');
my @written = qw(v n m t j r e w i x b d a u);

sub new
{
	my ($class, $seed) = @_;
	return bless { state => $seed, names => 0 }, $class;
}

# A generator of its own: the same statements for a seed everywhere.
sub upto
{
	my ($self, $n) = @_;
	$self->{state} = ($self->{state} * 1103515245 + 12345) % 2147483648;
	return int($self->{state} / 65536) % $n;
}
sub one_of { my ($self, @of) = @_; return $of[ $self->upto(scalar @of) ]; }
sub chance { my ($self, $percent) = @_; return $self->upto(100) < $percent; }
sub name { my ($self, $what) = @_; return $what . ++$self->{names}; }

# SQL that makes types, which both sets of tables share and every node needs.
sub types
{
	return "CREATE DOMAIN small AS int CHECK (VALUE < 100000); CREATE DOMAIN word AS text CHECK (length(VALUE) < 20);
		CREATE TYPE mood AS ENUM ('low', 'fair', 'high');
		CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);\n";
}

# SQL that makes the tables.
sub tables
{
	my ($prefix) = @_;
	return map {
		my $key = $_ eq 'pair' ? 'k int, k2 int' : "k $key{$_}";
		"CREATE TABLE $prefix$_ ($key, v text DEFAULT 'none', n int CHECK (n < 1000), m numeric(12,3), t timestamptz, j jsonb, r int[],
			e mood, w word, i int4range, x text COLLATE nocase, g int GENERATED ALWAYS AS (coalesce(n, 0) * 2 + 1) STORED,
			b bytea, d interval, a text[], u numrange, PRIMARY KEY ("
		  . ($_ eq 'pair' ? 'k, k2' : 'k') . "));\n"
	} @tables;
}
sub key_type { return $key{ $_[0] }; }
sub names { my ($prefix) = @_; return map { "$prefix$_" } @tables; }

# SQL of the key of a row with this number.
sub key_of
{
	my ($table, $i) = @_;
	return "'key ' || $i" if $table eq 'txt';
	return "$i / 4.0" if $table eq 'num';
	return "'2024-01-01 00:00+00'::timestamptz + $i * interval '1 hour'" if $table eq 'ts';
	return $table eq 'pair' ? "$i % 13, $i" : $i;
}

sub rows
{
	my ($prefix) = @_;
	return map {
		"TRUNCATE $prefix$_; INSERT INTO $prefix$_ (" . ($_ eq 'pair' ? 'k, k2' : 'k') . ", v, n, m, t, j, r, e, w, i, x, b, d, a, u) SELECT " . key_of($_, 'i') . ", CASE WHEN i % 7 > 0 THEN 'v' || i % 9 END,
			CASE WHEN i % 5 > 0 THEN i % 17 END, i / 8.0, '2024-02-01 00:00+00'::timestamptz + i * interval '5 hours',
			CASE WHEN i % 3 > 0 THEN jsonb_build_object('a', i % 4, 's', 's' || i % 6) END, CASE WHEN i % 4 > 0 THEN ARRAY[i % 3, i % 5, NULL] END,
			CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'high' WHEN 2 THEN 'low' ELSE 'fair' END::mood, CASE WHEN i % 6 > 0 THEN 'w' || i % 4 END,
			CASE WHEN i % 7 > 0 THEN int4range(i % 9, i % 9 + i % 4) END, CASE WHEN i % 8 > 0 THEN CASE i % 2 WHEN 0 THEN 'x' ELSE 'X' END || i % 5 END,
			CASE WHEN i % 6 > 0 THEN decode(lpad(to_hex(i % 7), 2, '0') || '005c', 'hex') END, CASE WHEN i % 5 > 0 THEN i % 4 * interval '1 month 30 days' - i % 3 * interval '1 hour' END,
			CASE WHEN i % 4 > 0 THEN ARRAY['v' || i % 9, NULL, 'a,\"' || i % 3] END, CASE WHEN i % 7 > 0 THEN numrange(i % 5 / 2.0, i % 5 + 1, '[]') END
			FROM generate_series(1, 40) i;\n"
	} @tables;
}

# Literals; in a prepared statement some are parameters, which have several.
sub literal
{
	my ($self, $type) = @_;
	if ($self->{parameters} && $type ne 'nocase' && $self->chance(60))
	{
		my @values = map { $self->chance(12) ? 'NULL' : $self->value($type) } 1 .. 7;
		push @{ $self->{parameters} }, { type => $type, values => \@values };
		return '$' . @{ $self->{parameters} };
	}
	return $type eq 'nocase' ? 'NULL::text COLLATE nocase' : "NULL::$type" if $self->chance(4);
	return $self->value($type);
}

sub value
{
	my ($self, $type) = @_;
	my $i = 1 + $self->upto(45);
	return $i if $type eq 'int' || $type eq 'small';
	return $self->one_of("'key $i'", "'v" . $i % 9 . "'", "''", "'s" . $i % 6 . "'") if $type eq 'text';
	return $self->one_of($i / 4, $i / 4 . '00', "$i.000") if $type eq 'numeric';
	return sprintf "'2024-01-%02d %02d:00+00'::timestamptz", 1 + $i / 24, $i % 24 if $type eq 'timestamptz';
	return sprintf q('{"a": %d, "s": "s%d"}'::jsonb), $i % 4, $i % 6 if $type eq 'jsonb';
	return sprintf q('{%d,%d,NULL}'::int[]), $i % 3, $i % 5 if $type eq 'int[]';
	return $self->one_of("'low'::mood", "'fair'::mood", "'high'::mood") if $type eq 'mood';
	return sprintf q{'[%d,%d)'::int4range}, $i % 9, $i % 9 + $i % 4 if $type eq 'int4range';
	return sprintf q{'\x%02x005c'::bytea}, $i % 7 if $type eq 'bytea';
	return sprintf q{'%d mons %d days -%d:00'::interval}, $i % 4, $i % 3 * 30, $i % 5 if $type eq 'interval';
	return sprintf q('{v%d,NULL,"a,\\"%d"}'::text[]), $i % 9, $i % 3 if $type eq 'text[]';
	return sprintf q{'(%.1f,%d]'::numrange}, $i % 5 / 2, $i % 5 + 1 if $type eq 'numrange';
	return $self->one_of('\'x', '\'X') . $i % 5 . "' COLLATE nocase" if $type eq 'nocase';
	return $self->one_of('true', 'false');
}

# A key that is likely to be there.
sub key_value
{
	my ($self, $table) = @_;
	return $self->literal($key{$table} eq 'small' ? 'int' : $key{$table}) unless $table eq 'txt';
	return $self->literal('text') if $self->{parameters} && $self->chance(50);
	return "'key " . (1 + $self->upto(45)) . "'";
}

sub column
{
	my ($self, $type, $scope) = @_;
	my @fit = grep { $_->[1] eq $type } @$scope;
	return @fit ? $self->one_of(@fit)->[0] : undef;
}

sub expression
{
	my ($self, $type, $scope, $depth) = @_;
	my $leaf = $self->chance(75) ? $self->column($type, $scope) : undef;
	$leaf //= $self->literal($type);
	return $leaf if $depth <= 0 || $self->chance(35);
	my $e = sub { $self->expression($_[0], $scope, $depth - 1) };
	my %forms = (
		int => [ sub { '(' . $e->('int') . $self->one_of(' + ', ' - ') . $e->('int') . ')' }, sub { 'length(' . $e->('text') . ')' },
			sub { 'coalesce(' . $e->('int') . ', 7)' }, sub { 'cardinality(' . $e->('int[]') . ')' },
			sub { '(' . $e->('jsonb') . "->>'a')::int" }, sub { 'abs(' . $e->('int') . ') % 5' },
			sub { 'CASE WHEN ' . $e->('bool') . ' THEN ' . $e->('int') . ' ELSE ' . $e->('int') . ' END' },
			sub { $self->scalar('int', $scope, $depth - 1) } ],
		text => [ sub { '(' . $e->('text') . ' || ' . $e->('text') . ')' }, sub { 'upper(' . $e->('text') . ')' },
			sub { 'substr(' . $e->('text') . ', 2, 3)' }, sub { '(' . $e->('jsonb') . "->>'s')" },
			sub { "coalesce(" . $e->('text') . ", '-')" }, sub { $self->stable_text },
			sub { 'coalesce(' . $e->('text') . ', ' . $self->stable_text . ')' }, sub { 'to_char(' . $e->('timestamptz') . ", 'DD HH24')" }, sub { 'nullif(' . $e->('text') . ', ' . $e->('text') . ')' },
			sub { $self->scalar('text', $scope, $depth - 1) } ],
		numeric => [ sub { '(' . $e->('numeric') . $self->one_of(' + ', ' * ') . $e->('int') . ')' },
			sub { 'round(' . $e->('numeric') . ', 1)' }, sub { $e->('int') . '::numeric' } ],
		timestamptz => [ sub { '(' . $e->('timestamptz') . ' + ' . $self->upto(9) . " * interval '1 hour')" },
			sub { 'greatest(' . $e->('timestamptz') . ", date_trunc('century', now()))" },
			sub { "greatest(" . $e->('timestamptz') . ', ' . $e->('timestamptz') . ')' } ],
		jsonb => [ sub { '(' . $e->('jsonb') . " || '{\"b\": 1}'::jsonb)" }, sub { "jsonb_build_object('x', " . $e->('int') . ')' } ],
		'int[]' => [ sub { '(' . $e->('int[]') . ' || ' . $e->('int') . ')' }, sub { 'ARRAY[' . $e->('int') . ', ' . $e->('int') . ']' } ],
		mood => [ sub { 'coalesce(' . $e->('mood') . ", 'fair')" }, sub { 'greatest(' . $e->('mood') . ', ' . $e->('mood') . ')' } ],
		int4range => [ sub { 'int4range(' . $e->('int') . ' % 5, 5)' }, sub { '(' . $e->('int4range') . " * '[2,7)'::int4range)" } ],
		nocase => [ sub { $self->literal('nocase') } ],
		bytea => [ sub { '(' . $e->('bytea') . ' || ' . $e->('bytea') . ')' }, sub { 'substr(' . $e->('bytea') . ', 1, 2)' }, sub { 'decode(md5(' . $e->('text') . "), 'hex')" } ],
		interval => [ sub { '(' . $e->('interval') . $self->one_of(' + ', ' - ') . $e->('interval') . ')' }, sub { 'justify_days(' . $e->('interval') . ')' },
			sub { '(' . $e->('timestamptz') . ' - ' . $e->('timestamptz') . ')' }, sub { '(' . $e->('int') . ") * interval '1 minute'" } ],
		'text[]' => [ sub { 'array_append(' . $e->('text[]') . ', ' . $e->('text') . '::text)' }, sub { 'ARRAY[' . $e->('text') . ', ' . $e->('text') . ']::text[]' },
			sub { '(' . $e->('text[]') . ')[2:3]' } ],
		numrange => [ sub { '(' . $e->('numrange') . " * '[1,3]'::numrange)" }, sub { 'range_merge(' . $e->('numrange') . ', ' . $e->('numrange') . ')' } ],
		bool => [ sub { $self->condition($scope, $depth - 1) } ]);
	return $self->one_of(@{ $forms{$type} })->();
}

# The same whenever it is asked for, but not known to be so.  May fail, where it does
# not depend on a plan whether it is asked for.
sub stable_text
{
	my ($self, $may_fail) = @_;
	return $may_fail && $self->chance(15) ? "current_setting('no.such')" : $self->one_of("current_setting('timezone')", "current_setting('no.such', true)",
		"(date_trunc('century', now())::date::text || current_user)", "to_char(date '2024-02-0" . (1 + $self->upto(8)) . "', 'Day')");
}

# For a result: what is equal looks the same.
sub shown
{
	my ($self, $type, $scope, $depth) = @_;
	my $e = $self->expression($type, $scope, $depth);
	return $type eq 'numeric' ? "round($e, 3)" : $type eq 'interval' ? "justify_interval($e)" :
	  $type eq 'numrange' ? "numrange(round(lower($e), 3), round(upper($e), 3), '[]')" : $e;
}

# One value, of a table's rows in relation to those around.
sub scalar
{
	my ($self, $type, $scope, $depth) = @_;
	my ($from, $inner, $table, $alias) = $self->table;
	my $what = $type eq 'int' ? $self->one_of('count(*)::int', "max($alias.n)", "min($alias.n)") : "max($alias.v COLLATE \"C\")";
	my $outer = $self->column($key{$table} eq 'small' ? 'int' : $key{$table}, $scope) // $self->key_value($table);
	my $where = $self->one_of("$alias.k = $outer", "$alias.k = " . $self->key_value($table), $self->condition([ @$inner, @$scope ], $depth));
	return "(SELECT $what FROM $from WHERE $where)";
}

sub condition
{
	my ($self, $scope, $depth) = @_;
	my $type = $self->one_of(qw(int int text numeric timestamptz));
	my $e = sub { $self->expression($_[0], $scope, $depth - 1) };
	my @forms = (
		sub { $e->($type) . $self->one_of(' = ', ' < ', ' >= ', ' <> ') . $e->($type) },
		sub { $e->($type) . ' IS ' . $self->one_of('NULL', 'NOT NULL') },
		sub { $e->($type) . ' IS DISTINCT FROM ' . $e->($type) },
		sub { $e->($type) . ' IN (' . join(', ', map { $self->literal($type) } 1 .. 1 + $self->upto(4)) . ')' },
		sub { $e->('text') . " LIKE '%" . $self->upto(9) . "%'" },
		sub { $e->('int') . ' BETWEEN ' . $self->literal('int') . ' AND ' . $self->literal('int') },
		sub { $e->('int') . ' = ANY (' . $e->('int[]') . ')' },
		sub { $e->('jsonb') . q( @> '{"a": ) . $self->upto(4) . "}'" }, sub { $e->('timestamptz') . ' < now()' },
		sub { $e->('mood') . $self->one_of(' = ', ' < ', ' >= ', ' <> ') . $e->('mood') }, sub { $e->('mood') . ' IN (' . $self->literal('mood') . ', ' . $self->literal('mood') . ')' },
		sub { $e->('int4range') . $self->one_of(' && ', ' @> ', ' < ') . $e->('int4range') }, sub { $e->('int') . ' <@ ' . $e->('int4range') },
		sub { $e->('nocase') . $self->one_of(' = ', ' <> ', ' = ') . $e->('nocase') }, sub { $e->('nocase') . ' IN (' . $self->literal('nocase') . ', ' . $self->literal('nocase') . ')' },
		sub { my $t = $self->one_of(qw(bytea interval text[] numrange int[])); $e->($t) . $self->one_of(' = ', ' < ', ' >= ', ' IS DISTINCT FROM ') . $e->($t) },
		sub { $e->('text[]') . $self->one_of(' && ', ' @> ', ' <@ ') . $e->('text[]') }, sub { $e->('text') . $self->one_of(' = ANY (', ' <> ALL (') . $e->('text[]') . ')' },
		sub { $e->('numrange') . $self->one_of(' && ', ' @> ', ' -|- ', ' << ') . $e->('numrange') }, sub { '(' . $e->('numeric') . ')::numeric <@ ' . $e->('numrange') },
		sub { my $t = $self->one_of('interval', 'bytea'); $e->($t) . ' IN (' . $self->literal($t) . ', ' . $self->literal($t) . ')' });
	push @forms, sub { '(' . $self->condition($scope, $depth - 1) . $self->one_of(' AND ', ' OR ') . $self->condition($scope, $depth - 1) . ')' },
	  sub { '(' . $self->condition($scope, $depth - 1) . ') IS NOT TRUE' },
	  sub { $self->one_of('', 'NOT ') . 'EXISTS ' . $self->rows_where('1', $scope, $depth - 1) },
	  sub { $e->('int') . $self->one_of(' IN ', ' NOT IN ') . $self->rows_where('n', $scope, $depth - 1) }
	  if $depth > 0;
	return $self->one_of(@forms)->();
}

sub rows_where
{
	my ($self, $what, $scope, $depth) = @_;
	my ($from, $inner, $table, $alias) = $self->table;
	$what = "$alias.$what" if $what ne '1';
	my $outer = $self->column($key{$table} eq 'small' ? 'int' : $key{$table}, $scope);
	my @and = $outer && $self->chance(60) ? "$alias.k = $outer" : ();
	return "(SELECT $what FROM $from WHERE " . join(' AND ', @and, $self->condition([ @$inner, @$scope ], $depth)) . ')';
}

# A table to read from: text, scope, its kind, its alias.
sub table
{
	my ($self, $table) = @_;
	my $alias = $self->name('a');
	$table //= $self->one_of(@tables);
	return ("$self->{prefix}$table $alias", [ $self->scope($table, $alias) ], $table, $alias);
}

sub scope
{
	my ($self, $table, $alias) = @_;
	my $type = $key{$table} eq 'small' ? 'int' : $key{$table};
	return ([ "$alias.k", $type ], ($table eq 'pair' ? [ "$alias.k2", 'int' ] : ()), map { [ "$alias.$_", $columns{$_} ] } sort keys %columns);
}

sub from
{
	my ($self, $outer, $depth) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	if ($depth > 0 && $self->chance(20))
	{
		my $name = $self->name('q');
		my ($sql, @types) = $self->select([], $depth - 1);
		return ("($sql) $name", [ map { [ "$name.c$_", $types[ $_ - 1 ] ] } 1 .. @types ]);
	}
	return ($from, $scope) if !$depth || $self->chance(45);
	my ($right, $more, $other, $name) = $self->table($self->chance(50) ? $table : undef);
	my $on = $key{$table} eq $key{$other} || ($key{$table} =~ /int|small/ && $key{$other} =~ /int|small/) ? "$alias.k = $name.k" :
	  $self->one_of("$alias.n = $name.n", "$alias.v = $name.v");
	my $join = $self->one_of('JOIN', 'JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN');
	my @both = (@$scope, @$more);
	return ("$from CROSS JOIN LATERAL (SELECT count(*)::int AS c1, max(x.v COLLATE \"C\") AS c2 FROM $self->{prefix}$other x WHERE "
		  . ($self->chance(50) ? "x.n = $alias.n" : "x.k = " . $self->key_value($other)) . ") $name",
		[ @$scope, [ "$name.c1", 'int' ], [ "$name.c2", 'text' ] ]) if $self->chance(15);
	$on .= ' AND ' . $self->condition(\@both, 1) if $join ne 'FULL JOIN' && $self->chance(40);
	return ("$from $join $right ON $on", \@both);
}

# Text and types of columns c1, c2, ...
sub select
{
	my ($self, $outer, $depth) = @_;
	my ($from, $scope) = $self->from($outer, $depth);
	my @types = map { $self->one_of(qw(int int text text numeric timestamptz jsonb int[] mood int4range bytea interval text[] numrange)) } 1 .. 1 + $self->upto(3);
	my $where = $self->chance(80) ? ' WHERE ' . $self->condition($scope, 2) : '';
	my @key = grep { $_->[0] =~ /\.k2?$/ } @$scope;
	$where .= ($where ? ' AND ' : ' WHERE ') . "$key[0][0] = " . $self->literal($key[0][1]) if @key && $self->chance(30);
	my $list = sub { join ', ', map { "$_[$_ - 1] AS c$_" } 1 .. @_ };
	if ($self->chance(20))
	{
		my @groups = map { $self->shown($_, $scope, 1) } @types;
		# not by number: a literal would be one
		return ('SELECT ' . $list->(@groups, 'count(*)::int', 'sum(' . $self->expression('int', $scope, 1) . ')::int')
			  . " FROM $from$where GROUP BY " . join(', ', 1 .. @types) . ($self->chance(40) ? ' HAVING count(*) > ' . $self->upto(3) : ''), @types, 'int', 'int');
	}
	if ($self->chance(12))
	{
		return ('SELECT ' . $list->('count(*)::int', 'sum(' . $self->expression('int', $scope, 2) . ')::int', 'max(' . $self->shown('numeric', $scope, 1) . ')')
			  . " FROM $from$where", qw(int int numeric));
	}
	my @values = map { $self->shown($_, $scope, 2) } @types;
	if ($self->chance(12))
	{
		push @values, $self->one_of('sum', 'count', 'max') . '(' . $self->expression('int', $scope, 1) . ') OVER (PARTITION BY ' . $self->expression('int', $scope, 1) . ')::int';
		push @types, 'int';
	}
	return ('SELECT ' . ($self->chance(12) ? 'DISTINCT ' : '') . $list->(@values) . " FROM $from$where", @types);
}

sub query
{
	my ($self) = @_;
	my ($sql, @types) = $self->select([], 2);
	if ($self->chance(15))
	{
		my $columns = join ', ', map { "c$_" } 1 .. @types;
		my $more = 'SELECT ' . join(', ', map { $self->shown($types[$_ - 1], [], 0) . "::$types[$_ - 1] AS c$_" } 1 .. @types);
		$sql = "SELECT $columns FROM ($sql) x " . $self->one_of('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT') . " $more";
	}
	if ($self->chance(15))
	{
		my $name = $self->name('w');
		$sql = "WITH $name AS " . $self->one_of('', 'MATERIALIZED ', 'NOT MATERIALIZED ') . "($sql) SELECT * FROM $name"
		  . ($self->chance(50) ? " WHERE c1 IS NOT NULL" : " CROSS JOIN (SELECT count(*) FROM $name) y");
	}
	elsif ($self->chance(25))
	{
		$sql = "SELECT * FROM ($sql) x ORDER BY " . join(', ', 1 .. @types) . ' LIMIT ' . (1 + $self->upto(7)) . ($self->chance(30) ? ' OFFSET 2' : '');
	}
	return $sql;
}

sub pinned
{
	my ($self, $table, $alias, $scope) = @_;
	my $key = $self->key_value($table);
	my $where = $self->one_of("$alias.k = $key", "$alias.k = $key", "$alias.k IN ($key, " . $self->key_value($table) . ')');
	return $self->chance(55) ? $where : $self->condition($scope, 2);
}

sub assignments
{
	my ($self, $scope, $depth) = @_;
	my %set;
	for (1 .. 1 + $self->upto(3))
	{
		my $column = $self->one_of(@written);
		$set{$column} = $self->chance(4) ? 'DEFAULT' : $self->expression($columns{$column}, $scope, $depth);
	}
	$set{n} = "($set{n}) % 50" if $set{n} && $set{n} ne 'DEFAULT';
	$set{m} = "round($set{m}, 2) % 1000" if $set{m} && $set{m} ne 'DEFAULT';
	$set{w} = "substr($set{w}, 1, 9)" if $set{w} && $set{w} ne 'DEFAULT';
	return join ', ', map { "$_ = $set{$_}" } sort keys %set;
}

sub returning
{
	my ($self, $scope) = @_;
	return '' if $self->chance(40);
	if ($self->chance(20))
	{
		my ($from, $inner, $table, $alias) = $self->table;
		my ($n) = grep { /\.n$/ } map { $_->[0] } @$scope;
		return " RETURNING $n, (SELECT count(*) || '/' || coalesce(sum($alias.n), 0) FROM $from" . $self->one_of('', " WHERE $alias.n = $n") . ')';
	}
	return ' RETURNING ' . join ', ', map { $self->shown($self->one_of(qw(int text numeric jsonb mood bytea interval)), $scope, 1) . " AS c$_" } 1 .. 1 + $self->upto(3);
}

# Rows to insert: only one of them may be wrong, and then it is alone.
sub inserted
{
	my ($self, $table) = @_;
	my $wrong = $self->chance(8);
	my $n = $wrong ? 1 : $self->chance(50) ? 1 : 2 + $self->upto(5);
	my %seen;
	my @rows;
	for (1 .. $n)
	{
		my $i = 30 + $self->upto(60);
		next if $seen{$i}++;
		my $key = key_of($table, $i);
		$key = $self->one_of('NULL', $key) if $wrong && $table ne 'pair';
		push @rows, '(' . join(', ', $key, $self->literal('text'), $wrong ? 5000 : $self->upto(50), $self->value('numeric'), $self->value('timestamptz'),
			$self->literal('jsonb'), $self->literal('int[]'), $self->literal('mood'), "'w$i'", $self->literal('int4range')) . ')';
	}
	return 'VALUES ' . join ', ', @rows;
}

sub insert
{
	my ($self) = @_;
	my $table = $self->one_of(@tables);
	my $full = "$self->{prefix}$table";
	my @scope = $self->scope($table, $full);
	my $sql = "INSERT INTO $full ";
	if ($self->chance(25))
	{
		my ($from, $scope, $source, $alias) = $self->table($table);
		my $key = { int => "$alias.k + 1000", dom => "$alias.k + 1000", txt => "$alias.k || '+'", num => "$alias.k + 1000",
			ts => "$alias.k + interval '1 year'", pair => "$alias.k + 1000, $alias.k2" }->{$table};
		$sql .= "SELECT $key, $alias.v, $alias.n, $alias.m, $alias.t, $alias.j, $alias.r FROM $from WHERE " . $self->condition($scope, 1);
	}
	else
	{
		$sql .= $self->inserted($table);
		my $target = $table eq 'pair' ? 'k, k2' : 'k';
		my $what = $self->upto(6);
		# an upsert is sent whole, or not at all
		@scope = () if $what;
		$sql .= " ON CONFLICT ($target) DO NOTHING" if $what == 1;
		$sql .= " ON CONFLICT ($target) DO UPDATE SET v = coalesce($full.v, '') || coalesce(excluded.v, '-'), n = excluded.n, m = $full.m + 1"
		  . ($self->chance(30) ? " WHERE $full.n < excluded.n" : '') if $what == 2;
		$sql .= " ON CONFLICT ($target) DO UPDATE SET t = " . $self->one_of("date_trunc('century', now())", 'excluded.t', "$full.t") . ', v = '
		  . $self->one_of('', "$full.v || ") . $self->one_of($self->stable_text(1), 'coalesce(excluded.v, ' . $self->stable_text(1) . ')',
			"CASE WHEN $full.n > excluded.n THEN " . $self->stable_text(1) . ' ELSE excluded.v END')
		  . $self->one_of('', ", n = " . $self->upto(60), ', n = excluded.n')
		  . ($self->chance(30) ? " WHERE $full.n < excluded.n OR $full.v = " . $self->stable_text(1) : '') if $what > 3;
	}
	return $sql . (@scope ? $self->returning(\@scope) : $self->one_of('', " RETURNING $full.k, v, n, upper(v), j || '{\"b\": 1}'",
			" RETURNING $full.k, coalesce(v, " . $self->stable_text(1) . ')'));
}

sub update
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	if ($self->chance(15))
	{
		# by its unique key, so that a row has one partner
		my ($other, $more, $kind, $name) = $self->table($table);
		return "UPDATE $from SET " . $self->assignments([ @$scope, @$more ], 1) . " FROM $other WHERE $alias.k = $name.k"
		  . ($table eq 'pair' ? " AND $alias.k2 = $name.k2" : '') . ' AND ' . $self->condition([ @$scope, @$more ], 1) . $self->returning($scope);
	}
	return "UPDATE $from SET k = " . key_of($table, 100 + $self->upto(900)) . " WHERE $alias.k = " . $self->key_value($table) . $self->returning($scope)
	  if $table ne 'pair' && $self->chance(15);
	return "UPDATE $from SET " . $self->assignments($scope, 2) . ' WHERE ' . $self->pinned($table, $alias, $scope) . $self->returning($scope);
}

sub delete
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my $sql = "DELETE FROM $from";
	if ($self->chance(20))
	{
		my ($other, $more, $kind, $name) = $self->table($table);
		return "$sql USING $other WHERE $alias.k = $name.k" . ($table eq 'pair' ? " AND $alias.k2 = $name.k2" : '')
		  . " AND $name.k = " . $self->key_value($table) . $self->returning($scope);
	}
	return "$sql WHERE " . $self->pinned($table, $alias, $scope) . " AND $alias.n > 8" . $self->returning($scope);
}

sub merge
{
	my ($self) = @_;
	my $table = $self->one_of(grep { $_ ne 'pair' } @tables);
	my $full = "$self->{prefix}$table";
	my $key = key_of($table, 1 + $self->upto(60));
	return "MERGE INTO $full USING (SELECT " . $self->literal('text') . '::text AS v, ' . $self->literal('int') . "::int AS n) s ON $full.k = $key"
	  . ' WHEN MATCHED' . ($self->chance(40) ? " AND $full.n > s.n" : '') . ' THEN ' . $self->one_of('DELETE', "UPDATE SET v = s.v, n = s.n % 50")
	  . " WHEN NOT MATCHED THEN INSERT (k, v, n) VALUES ($key, s.v, s.n % 50)";
}

# What changes a table, and beside it what reads it, as it was.
sub with_changes
{
	my ($self) = @_;
	my ($from, $scope, $table, $alias) = $self->table;
	my $where = $self->chance(40) ? $self->condition($scope, 1) : $self->pinned($table, $alias, $scope);
	my $change = $self->one_of("UPDATE $from SET n = 1 WHERE $where", "UPDATE $from SET n = n % 5, v = v || '!' WHERE $where", "DELETE FROM $from WHERE $where");
	my ($other, $more, $kind, $name) = $self->table($self->chance(70) ? $table : undef);
	return "WITH w AS ($change RETURNING $alias.v AS c1, $alias.n AS c2) " . $self->one_of('SELECT c1, c2 FROM w', 'SELECT count(*), max(c2) FROM w',
		"SELECT c1, c2, (SELECT count(*) || '/' || coalesce(sum($name.n), 0) FROM $other) FROM w",
		"SELECT (SELECT count(*) FROM w), count(*), sum($name.n) FROM $other WHERE " . $self->condition($more, 1),
		"SELECT c1, c2, (SELECT max($name.v COLLATE \"C\") FROM $other WHERE $name.n = c2) FROM w",
		"SELECT w.c1, $name.v, $name.n FROM w JOIN $other ON $name.n = w.c2");
}

sub plain
{
	my ($self) = @_;
	my $what = $self->upto(100);
	return $what < 35 ? $self->query : $what < 53 ? $self->rare_query : $what < 63 ? $self->insert : $what < 73 ? $self->update :
	  $what < 79 ? $self->delete : $what < 84 ? $self->merge : $what < 89 ? $self->with_changes : $self->rare_change;
}

# Seven executions: PostgreSQL thinks about a generic plan after five.
sub prepared
{
	my ($self) = @_;
	local $self->{parameters} = [];
	my $sql = $self->plain;
	my @parameters = @{ $self->{parameters} };
	my $name = $self->name('p');
	my $calls = join '', map { my $i = $_; ";\nEXECUTE $name" . (@parameters ? '(' . join(', ', map { $_->{values}[$i] } @parameters) . ')' : '') } 0 .. 6;
	return "PREPARE $name" . (@parameters ? '(' . join(', ', map { $_->{type} } @parameters) . ')' : '') . " AS $sql$calls;\nDEALLOCATE $name";
}

sub function
{
	my ($self) = @_;
	local $self->{parameters} = [];
	my $sql = $self->one_of($self->query, $self->query, $self->with_changes);
	my @parameters = @{ $self->{parameters} };
	my $name = 'pg_temp.' . $self->name('f');
	my $language = $self->one_of('sql', 'plpgsql', 'plpgsql');
	my $body = "SELECT q::text FROM ($sql) q";
	$body = $sql =~ s/^(WITH w AS \(.* RETURNING \w+\.v AS c1, \w+\.n AS c2\)) (SELECT .*)$/$1 SELECT q::text FROM ($2) q/r if $sql =~ /^WITH w AS \((?:UPDATE|DELETE)/;
	$body = $self->one_of("BEGIN RETURN QUERY $body; END", "DECLARE x text; BEGIN FOR x IN $body LOOP RETURN NEXT x; END LOOP; END",
		"BEGIN BEGIN RETURN QUERY $body; RAISE SQLSTATE 'XX001'; EXCEPTION WHEN SQLSTATE 'XX001' THEN RETURN NEXT 'undone'; END; RETURN QUERY $body; END")
	  if $language eq 'plpgsql';
	my $calls = join '', map { my $i = $_; ";\nSELECT * FROM $name(" . join(', ', map { "$_->{values}[$i]" } @parameters) . ') x' } 0 .. 6;
	return "CREATE FUNCTION $name(" . join(', ', map { $_->{type} } @parameters) . ") RETURNS SETOF text LANGUAGE $language AS \$body\$ $body \$body\$$calls";
}

# What is more than one statement, or no plain one.
sub script
{
	my ($self) = @_;
	return $self->chance(50) ? $self->cursor : $self->rare_script;
}

sub cursor
{
	my ($self) = @_;
	my ($sql, @types) = $self->select([], 1);
	my $name = $self->name('cursor');
	return "DECLARE $name SCROLL CURSOR WITH HOLD FOR SELECT * FROM ($sql) x ORDER BY " . join(', ', 1 .. @types)
	  . ";\nFETCH 3 FROM $name;\nMOVE 2 FROM $name;\nFETCH BACKWARD 2 FROM $name;\nFETCH ALL FROM $name;\nCLOSE $name";
}

sub statement
{
	my ($self, $prefix) = @_;
	my $what = $self->upto(100);
	local $self->{prefix} = $prefix // 'd_';
	return $what < 64 ? $self->plain : $what < 80 ? $self->prepared : $what < 89 ? $self->function : $self->script;
}

1;
