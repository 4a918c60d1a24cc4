# test/t/400_pages.pl over rdma: every type, every state of a row, writers.
use strict;
use warnings;
use FragAffinity;

$ENV{FA_TRANSPORTS} = 'rdma';
do('./test/t/400_pages.pl') // die $@ || $!;
