# 004_crash.pl again, with moves that go by rows and not by pages.
use strict;
use warnings;
use File::Basename;

$ENV{FA_MOVE_PATH} = 'logical';
do(dirname(__FILE__) . '/004_crash.pl') // die $@ || $!;
