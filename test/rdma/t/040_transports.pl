# test/t/430_transports.pl for rdma: messages, faults of the wire, kills.
use strict;
use warnings;
use FragAffinity;

$ENV{FA_TRANSPORTS} = 'rdma';
do('./test/t/430_transports.pl') // die $@ || $!;
