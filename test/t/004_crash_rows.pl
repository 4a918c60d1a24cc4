# 004_crash.pl again, with moves that go by rows and not by pages.
use strict;
use warnings;
use File::Basename;
use File::Spec;
use FragAffinity;

$ENV{FA_MOVE_PATH} = 'logical';
do(File::Spec->rel2abs(dirname(__FILE__) . '/004_crash.pl')) // die $@ || $!;
