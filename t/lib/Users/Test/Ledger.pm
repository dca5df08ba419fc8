package Users::Test::Ledger;

# What writers (Users::Test::Writer) were told beside what the database has: tests of that.

use v5.36;
use Digest::SHA qw(sha256_hex);
use Test::More;

# Of a line of a ledger.
use constant KEYS => [qw(operation mark status at seconds unknown id username password)];

# database: has a method sql. Its table public.stored has each mark as often as it was stored, in this order, and for
# whom.
sub new ($class, $database) {
    return bless { database => $database }, $class;
}

# While writers go on: of the lines of their ledgers so far.
sub judge ($self, @lines) {
    my %told = map { $_->{mark} => $_ } grep { $_->{status} =~ /^20[01]$/ } @lines;
    my %asked = map { $_->{mark} => $_ } @lines;

    $self->_read;
    my $stored = $self->{stored};
    _none('what was acknowledged is there', grep { !$stored->{ $_->{mark} } } values %told);
    _none('... for the account that was told', grep { ($stored->{ $_->{mark} } // [$_->{id}])->[0] != $_->{id} } values %told);
    is_deeply [grep { $stored->{$_}->@* > 1 } keys %$stored], [], 'nothing is there twice';
    _none('what is there besides had an answer that said that its outcome is not known, or none of the module',
        grep { !$_->{unknown} } map { $asked{$_} // () } grep { !$told{$_} } keys %$stored);
}

# When all writers have ended.
sub judge_all ($self, @lines) {
    $self->judge(@lines);
    my (%asked, %last);
    for (@lines) {
        $asked{ $_->{mark} } = 1;
        $last{ writer($_->{mark}) } = $_->{mark};
    }
    my @strange = grep { !$asked{$_} } keys $self->{stored}->%*;
    my %killed;    # by its writer, who was killed with it under way: one
    $killed{ writer($_) }++ for @strange;
    is_deeply [grep { $killed{$_} > 1 || !$last{$_} } keys %killed], [], 'somebody asked for all that is there';
    $self->_judge_credentials(@lines);
    $self->_judge_order;
}

# A mark is WRITER-NUMBER-OPERATION.
sub writer ($mark) { $mark =~ s/-\d+-\w+$//r }

sub _judge_credentials ($self, @lines) {
    my %good = map { /^(\S+?)\|(.*)/ } split /\n/, $self->{database}->sql(<<~SQL);
        select username, user_id || ' ' || encode(secret_digest, 'hex') from users_api.credential
        SQL
    _none('the credentials that were told are good',
        grep { $_->{password} && ($good{ $_->{username} } // '') ne "$_->{id} " . sha256_hex($_->{password}) } @lines);
    is keys %good, (grep { /-(?:post|key)$/ } keys $self->{stored}->%*), '... and there is one pair an account';
}

sub _judge_order ($self) {
    my %own;
    for ($self->{order}->@*) {
        push $own{$1}->@*, $2 if /^(.*)-(\d+)-own$/;
    }
    is_deeply [grep { "@{$own{$_}}" ne join ' ', sort { $a <=> $b } $own{$_}->@* } keys %own], [], 'no change is undone by an earlier one';
}

sub _read ($self) {
    $self->@{qw(stored order)} = ({}, []);
    for (split /\n/, $self->{database}->sql('select mark, user_id from public.stored order by number')) {
        my ($mark, $user) = split /\|/;
        push $self->{stored}{$mark}->@*, $user;
        push $self->{order}->@*, $mark;
    }
}

sub _none ($name, @faulty) {
    is_deeply [map { join ' ', map { $_ // '' } @$_{qw(client operation mark status at seconds id)} } @faulty], [], $name;
}

1;
