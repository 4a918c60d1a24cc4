=pod

=head1 NAME

FragAffinity - clusters of nodes for TAP tests

=head1 SYNOPSIS

  use FragAffinity;
  my $c = FragAffinity->new(nodes => 3);
  $c->sql(1, 'SELECT ...');             # on node 1, dies on error
  my ($code, $message) = $c->fails(1, 'SELECT ...');
  my $load = $c->start_load(table => 't', modes => { 1 => ['simple'] });
  $c->wait_for_load($load, 200);
  $c->kill9(2); $c->restart(2);
  $c->stop_load($load);
  $c->check_load($load, 't', 'after the crash');

Nodes are numbered from 1 and named n1, n2, ...  The servers listen on
loopback; the superuser is postgres and so is the database.  What start_load and
the like do is in ClientLoad.

=cut

package FragAffinity;

use strict;
use warnings;
use ClientLoad qw(start_load wait_for_load stop_load check_load);
use IO::Socket::UNIX;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

# The root of the run's copy of test/.
(my $here = $INC{'FragAffinity.pm'}) =~ s{/perl/FragAffinity\.pm$}{};
my $db = 'postgres';
my @clusters;

=pod

=head1 METHODS

=over

=item FragAffinity->new(nodes => 3, proxy => 0, connect => 1, config => '')

Starts servers; with connect creates the extension and joins them; with proxy
peers reach each other through links that C<link> can delay or cut.  fsync is
off: a killed process loses nothing that it wrote.  The variable FA_CONFIG of the
environment is configuration, too.

=cut

sub new
{
	my ($class, %p) = @_;
	my $self = bless {
		n => $p{nodes} // 3,
		prefix => $p{prefix} // 'n',
		loads => [] }, $class;

	$ENV{PGUSER} = 'postgres';
	push @clusters, $self;
	for my $i (1 .. $self->{n})
	{
		my $node = PostgreSQL::Test::Cluster->new("$self->{prefix}$i");
		_init($node, $p{config} // '');
		$node->start;
		$self->{node}[$i] = $node;
		$self->{peer_port}[$i] = $node->port;
	}
	$self->_start_proxy if $p{proxy};
	$self->connect_nodes if $p{connect} // 1;
	return $self;
}

sub _init
{
	my ($node, $config) = @_;
	my $data = $node->data_dir;

	mkdir $node->backup_dir;
	mkdir $node->archive_dir;
	if ($ENV{FA_TEMPLATE})
	{
		system_or_bail('cp', '-a', $ENV{FA_TEMPLATE}, $data);
	}
	else
	{
		system_or_bail('initdb', '-D', $data, '-U', 'postgres', '-A', 'trust',
			'-E', 'UTF8', '--no-locale', '-N');
	}
	my $common = slurp_file("$here/server.conf");
	$node->append_conf('postgresql.conf', $common . "
listen_addresses = '127.0.0.1'
unix_socket_directories = '" . $node->host . "'
port = " . $node->port . "
fsync = off
" . ($ENV{FA_CONFIG} // '') . "
$config");
	return;
}

sub _start_proxy
{
	my ($self) = @_;
	my $socket = PostgreSQL::Test::Utils::tempdir_short() . '/proxy';
	my $out = '';

	my $run = IPC::Run::start(
		[ "$here/proxy", '--control', $socket,
			map { '127.0.0.1:' . $_->port } $self->nodes ],
		'<', \undef, '>', \$out, '2>&1');
	my $limit = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	pump_until($run, $limit, \$out, qr/^link $self->{n} port \d+$/m)
	  or die "proxy did not start: $out";
	$self->{peer_port}[$1] = $2 while $out =~ /^link (\d+) port (\d+)$/mg;
	$self->{proxy} = $run;
	$self->{proxy_socket} = $socket;
	return;
}

=pod

=item $c->connect_nodes

CREATE EXTENSION everywhere and add_node for each, from node 1.  The variable
FA_MOVE_PATH and FA_TRANSPORTS of the environment set "move_path" and "transports".

=cut

sub connect_nodes
{
	my ($self) = @_;

	$self->sql($_, 'CREATE EXTENSION fragaffinity CASCADE') for 1 .. $self->{n};
	$self->add_node($_) for 1 .. $self->{n};
	$self->sql(1, "SELECT fragaffinity.configure('move_path', '$ENV{FA_MOVE_PATH}')")
	  if $ENV{FA_MOVE_PATH};
	$self->sql(1, "SELECT fragaffinity.configure('transports', '$ENV{FA_TRANSPORTS}')")
	  if $ENV{FA_TRANSPORTS};
	return;
}

sub add_node
{
	my ($self, $i, $from) = @_;

	return $self->sql($from // 1,
		"SELECT fragaffinity.add_node('n$i', '127.0.0.1', $self->{peer_port}[$i], '$db')");
}

=pod

=item $c->node(I), $c->nodes, $c->peer_port(I)

The PostgreSQL::Test::Cluster object of a node, of all; what peers connect to.

=item $c->sql(I, SQL), $c->fails(I, SQL), $c->poll(I, SQL, EXPECTED, WHAT)

Runs SQL and returns its output, or dies; returns (SQLSTATE, all of stderr) of
SQL that must fail (SQLSTATE '' when it did not); waits until SQL answers
EXPECTED ('t' by default) and dies with what it answered last.

=cut

sub node { return $_[0]{node}[ $_[1] ]; }
sub nodes { my $self = shift; return @{ $self->{node} }[ 1 .. $self->{n} ]; }
sub peer_port { return $_[0]{peer_port}[ $_[1] ]; }

sub conninfo
{
	my ($self, $i, $user) = @_;
	return 'host=127.0.0.1 user=' . ($user // 'postgres') . ' dbname=postgres port='
	  . $self->node($i)->port;
}

sub sql
{
	my ($self, $i, $sql) = @_;
	return $self->node($i)->safe_psql($db, $sql);
}

sub fails
{
	my ($self, $i, $sql) = @_;
	my ($out, $err) = ('', '');
	my $ret = $self->node($i)->psql($db, "\\set VERBOSITY verbose\n$sql",
		stdout => \$out, stderr => \$err, on_error_stop => 1);

	return ('', "no error: $out") if $ret == 0;
	my ($code) = $err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	return ($code // 'none', $err);
}

sub poll
{
	my ($self, $i, $sql, $expected, $what) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;
	my ($out, $err) = ('', '');

	$expected //= 't';
	while (time() < $end)
	{
		$self->node($i)->psql($db, $sql, stdout => \$out, stderr => \$err);
		return 1 if $out eq $expected;
		usleep(50_000);
	}
	diag(($what // $sql) . ": got \"$out\", expected \"$expected\" $err");
	return 0;
}

=pod

=item $c->kill9(I), $c->restart(I), $c->stop(I)

Kills the postmaster and all its processes at once, as a power failure would;
starts the server again.

=cut

sub _children
{
	my ($parent) = @_;
	my @found;

	for my $file (glob '/proc/[0-9]*/stat')
	{
		open my $fh, '<', $file or next;
		my $line = <$fh> // next;
		my ($pid, $ppid) = $line =~ /^(\d+) \(.*\) \S (\d+)/ or next;
		push @found, $pid if $ppid == $parent;
	}
	return @found;
}

sub _wait_gone
{
	my ($pid) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	usleep(10_000) while kill(0, $pid) && time() < $end;
	return;
}

sub kill9
{
	my ($self, $i) = @_;
	my $node = $self->node($i);
	my $pid = $node->{_pid} or die "node $i does not run";
	# Stopped first, the postmaster for the sake of new ones: a child that sees
	# it die would end its transaction, and with it the parts on other nodes.
	kill 'STOP', $pid;
	my @children = _children($pid);

	kill 'STOP', @children;
	$node->kill9;
	kill 'KILL', @children;
	_wait_gone($_) for $pid, @children;
	return;
}

sub restart
{
	my ($self, $i) = @_;
	my $node = $self->node($i);

	$node->stop('fast') if defined $node->{_pid};
	$node->start;
	return;
}

sub stop { my ($self, $i, $mode) = @_; $self->node($i)->stop($mode // 'fast'); return; }

=pod

=item $c->link(I, COMMAND, [MS])

delay, stall, cut or heal the way of all peers to node I (0: all nodes); see
test/proxy.c.

=cut

sub link
{
	my ($self, $i, $command, $ms) = @_;
	my $s = IO::Socket::UNIX->new(Peer => $self->{proxy_socket})
	  or die "no proxy: $!";

	print $s "$command $i " . ($ms // '') . "\n";
	my $answer = <$s> // 'nothing';
	die "proxy: $answer" unless $answer =~ /^ok/;
	return;
}

=pod

=item $c->rows(I, TABLE), $c->rows_agree(TABLE, NAME)

Number of rows and a hash of them, as node I sees them; tests that all nodes
see the same.

=cut

sub rows
{
	my ($self, $i, $table) = @_;
	return $self->sql($i,
		"SELECT count(*) || ' rows, hash ' ||
			coalesce(sum(hashtextextended(t::text, 0)), 0) FROM $table t");
}

sub rows_agree
{
	my ($self, $table, $name) = @_;
	my @seen = map { $self->rows($_, $table) } 1 .. $self->{n};
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(join("\n", @seen), join("\n", ($seen[0]) x $self->{n}), $name);
	return $seen[0];
}

=pod

=item $c->fragment(TABLE, OFFSET), $c->owner(FRAGMENT), $c->move(FRAGMENT, NODE, [FROM])

Id of a table's fragment; name of its owner as node 1 sees it; a move that
waits, also for the node that asks to know the new owner.

=cut

sub fragment
{
	my ($self, $table, $offset) = @_;
	return $self->sql(1,
		"SELECT fragment FROM fragaffinity.fragments WHERE table_name = '$table'::regclass
		ORDER BY fragment OFFSET " . ($offset // 0) . ' LIMIT 1');
}

sub owner
{
	my ($self, $fragment, $seen_from) = @_;
	return $self->sql($seen_from // 1,
		"SELECT owner FROM fragaffinity.fragments WHERE fragment = $fragment");
}

sub move
{
	my ($self, $fragment, $destination, $from) = @_;
	$from //= 1;
	my $move = $self->sql($from,
		"SELECT fragaffinity.move_fragment($fragment, '$destination')");

	# A node with a transaction that has written by the old way hears of it later.
	$self->poll($from, "SELECT owner FROM fragaffinity.fragments WHERE fragment = $fragment",
		$destination, "node $from knows of move $move");
	return $move;
}

=pod

=item $c->check_consistent(TABLES, NAME)

Every node has the same map; every fragment is a heap on its owner and foreign
elsewhere; indexes agree with their heaps; nothing is left over: no prepared
transaction, no decision, no shadow table, no replication slot.  Waits for what the resolver still has to do.

=cut

sub check_consistent
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @all = 1 .. $self->{n};
	my $good = 1;

	for my $i (@all)
	{
		# Clients go on, so only what is there already counts.
		my $now = $self->sql($i, 'SELECT clock_timestamp()');
		for my $leftover (
			[ 'prepared transactions', "pg_prepared_xacts WHERE prepared < '$now'" ],
			[ 'decisions', "fragaffinity.decision WHERE decided < '$now'" ],
			[ 'things to clean up', 'fragaffinity.cleanup' ],
			[ 'replication slots', 'pg_replication_slots' ],
			[ 'moves in flight', "fragaffinity.move WHERE state NOT IN ('done', 'failed', 'cancelled')" ])
		{
			$good &= $self->poll($i, "SELECT count(*) FROM $leftover->[1]", '0',
				"$leftover->[0] left on node $i");
		}
	}
	my $map = 'SELECT string_agg(fragment || \':\' || owner || \':\' || version, \',\' ORDER BY fragment)
		FROM fragaffinity.fragment';
	my $first = $self->sql(1, $map);
	$good &= $self->poll($_, $map, $first, "map of node $_") for @all;
	for my $i (@all)
	{
		my $wrong = $self->sql($i, "
			SELECT string_agg(f.fragment::text, ', ')
			FROM fragaffinity.fragment f, fragaffinity.local_node l, pg_class c
			WHERE c.oid = f.leaf
				AND c.relkind <> CASE WHEN f.owner = l.node THEN 'r' ELSE 'f' END");
		if ($wrong ne '')
		{
			diag("node $i: leaves of the wrong kind: $wrong");
			$good = 0;
		}
		my $loose = $self->sql($i, "
			SELECT string_agg(c.oid::regclass::text, ', ')
			FROM pg_class c
			WHERE c.relname ~ '_b[0-9]+(_s[0-9]+)?_[hr]' AND c.relkind IN ('r', 'f')
				AND NOT EXISTS (SELECT FROM fragaffinity.fragment f WHERE f.leaf = c.oid)");
		if ($loose ne '')
		{
			diag("node $i: relations left over: $loose");
			$good = 0;
		}
		$good &= $self->_check_indexes($i);
	}
	ok($good, $name);
	return $good;
}

sub _check_indexes
{
	my ($self, $i) = @_;
	my ($out, $err);

	$self->sql($i, 'SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS amcheck');
	my $ret = $self->node($i)->psql($db, "
		SELECT bt_index_parent_check(x.indexrelid, true)
		FROM fragaffinity.fragment f, fragaffinity.local_node l, pg_index x, pg_class c, pg_am a
		WHERE f.owner = l.node AND x.indrelid = f.leaf AND c.oid = x.indexrelid
			AND a.oid = c.relam AND a.amname = 'btree';
		SELECT v.* FROM fragaffinity.fragment f, fragaffinity.local_node l,
			verify_heapam(f.leaf) v
		WHERE f.owner = l.node",
		stdout => \$out, stderr => \$err, on_error_stop => 1);

	$out =~ s/^\n*//;
	return 1 if $ret == 0 && $out !~ /\S/;
	diag("node $i: amcheck: $out $err");
	return 0;
}

=pod

=item $c->hold(I, NAME), $c->release(I), $c->wait_held(I, NAME, [PATTERN])

Sets fragaffinity.stop_point on node I, so that whoever gets there waits; lets
it go on (the server may be down, too); waits until a process has stopped
there since hold, whose line in the log has PATTERN.

=back

=cut

sub hold
{
	my ($self, $i, $point) = @_;

	$self->{log_start}[$i] = -s $self->node($i)->logfile;
	$self->sql($i, "ALTER SYSTEM SET fragaffinity.stop_point = '$point'");
	$self->sql($i, 'SELECT pg_reload_conf()');
	# New processes inherit it from the postmaster.
	$self->poll($i, 'SHOW fragaffinity.stop_point', $point) or die 'not set';
	return;
}

sub release
{
	my ($self, $i) = @_;

	if (!defined $self->node($i)->{_pid})
	{
		my $file = $self->node($i)->data_dir . '/postgresql.auto.conf';
		open my $fh, '>', $file or die "$file: $!";
		close $fh;
		return;
	}
	$self->sql($i, 'ALTER SYSTEM RESET fragaffinity.stop_point');
	$self->sql($i, 'SELECT pg_reload_conf()');
	return;
}

sub wait_held
{
	my ($self, $i, $point, $pattern) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	$pattern //= qr//;
	while (time() < $end)
	{
		my $log = slurp_file($self->node($i)->logfile, $self->{log_start}[$i]);
		return 1 if grep { /stopped at "\Q$point\E"/ && /$pattern/ } split /\n/, $log;
		usleep(10_000);
	}
	return 0;
}

# Sessions and proxies end with the test, however it ends; servers are
# PostgreSQL::Test::Cluster's.
END
{
	my $status = $?;
	for my $c (@clusters)
	{
		for my $load (@{ $c->{loads} })
		{
			next if $load->{stopped};
			eval { $_->{run}->kill_kill } for @{ $load->{sessions} };
		}
		eval { $c->{proxy}->kill_kill } if $c->{proxy};
	}
	$? = $status;
}

1;
