# 400_pages.pl again, with pages that go over libpq and not over shared memory.
use strict;
use warnings;
use File::Basename;
use File::Spec;
use FragAffinity;

$ENV{FA_TRANSPORTS} = 'stream';
do(File::Spec->rel2abs(dirname(__FILE__) . '/400_pages.pl')) // die $@ || $!;
