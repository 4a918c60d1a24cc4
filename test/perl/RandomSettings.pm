=pod

=head1 NAME

RandomSettings - what a client may set in its session, for RandomSql

=cut

package RandomSettings;

use strict;
use warnings;

# How values look and are read, what statements mean, how they are planned.
my %values = (
	DateStyle => [ "'SQL, DMY'", "'German'", "'Postgres, MDY'", "'ISO, YMD'" ], IntervalStyle => [qw(sql_standard postgres_verbose iso_8601)],
	TimeZone => [ "'Asia/Kolkata'", "'America/St_Johns'", "'<+03>-03'", '-7.5' ], extra_float_digits => [qw(-5 0 3)], bytea_output => ['escape'],
	array_nulls => ['off'], standard_conforming_strings => ['off'], escape_string_warning => ['off'], quote_all_identifiers => ['on'], transform_null_equals => ['on'],
	search_path => [ "public, pg_catalog", "nowhere, public", "pg_temp, public" ],
	lc_messages => ["'C'"], lc_monetary => ["'C.UTF-8'"], lc_numeric => ["'C.UTF-8'"], lc_time => ["'C.UTF-8'"], xmloption => ['document'],
	default_text_search_config => ["'pg_catalog.english'"],
	plan_cache_mode => [qw(force_generic_plan force_custom_plan)], cursor_tuple_fraction => [qw(0 1)], work_mem => ["'64kB'"], join_collapse_limit => [1], from_collapse_limit => [1],
	geqo_threshold => [2], enable_partitionwise_join => ['on'], enable_partitionwise_aggregate => ['on'], constraint_exclusion => [qw(on off)],
	parallel_setup_cost => [0], parallel_tuple_cost => [0], min_parallel_table_scan_size => [0],
	map { ("enable_$_" => ['off']) } qw(hashagg hashjoin mergejoin nestloop sort seqscan indexscan bitmapscan memoize async_append partition_pruning material incremental_sort parallel_append));
my @settings = sort keys %values;

# SQL that sets some of them.
sub settings
{
	my ($self) = @_;
	my %set = map { $_ => $self->one_of(@{ $values{$_} }) } map { $self->one_of(@settings) } 1 .. 6;
	return join '', map { "SET $_ = $set{$_};\n" } sort keys %set;
}

1;
