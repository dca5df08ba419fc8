/* usersctl: an administrator's command for mod_users. See usersctl.8. */

#include "usersctl/arguments.h"
#include "usersctl/commands.h"
#include "usersctl/database.h"
#include "usersctl/fields.h"
#include "usersctl/secrets.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Help */

/* An option as it is typed: --scopes SCOPES */
static void print_option(const char *before, users_argument argument, const char *behind)
{
    const users_argument_kind *kind = &users_arguments[argument];

    printf("%s--%s%s%s%s", before, kind->option, kind->operand ? " " : "",
           kind->operand ? kind->operand : "", behind);
}

static void print_command(const users_command *command)
{
    printf("  %s%s%s", command->noun, command->verb ? " " : "", command->verb ? command->verb : "");
    if (command->operand != USERS_ARG_NONE) {
        printf(" %s", users_arguments[command->operand].operand);
    }
    if (command->fields) {
        printf(" %s...", command->fields);
    }
    for (users_argument argument = 0; argument < USERS_ARG_COUNT; argument++) {
        if (command->required & USERS_BIT(argument)) {
            print_option(" ", argument, "");
        }
    }
    for (users_argument argument = 0; argument < USERS_ARG_COUNT; argument++) {
        if (command->optional & USERS_BIT(argument)) {
            print_option(" [", argument, "]");
        }
    }
    printf("\n      %s\n", command->summary);
}

static users_exit print_help(void)
{
    puts("usage: usersctl COMMAND [OPTION]...\n\nCommands:");
    for (const users_command *command = users_commands; command->noun; command++) {
        print_command(command);
    }
    puts("\nOptions:");
    for (users_argument argument = 0; argument < USERS_ARG_COUNT; argument++) {
        const users_argument_kind *kind = &users_arguments[argument];

        if (kind->option) {
            print_option("  ", argument, "\n");
            printf("      %s%s%s%s\n", kind->help, kind->initial ? " (" : "",
                   kind->initial ? kind->initial : "", kind->initial ? ")" : "");
            if (kind->words) {
                printf("      words: %s\n", kind->words);
            }
        }
    }
    puts("\nThe manual page usersctl(8) has examples.");
    return users_output_finish();
}

/* The command line */

/* Read the options into values. They may stand anywhere; returns where the rest begins, or 0. */
static int read_options(users_invocation *invocation, int argc, char **argv)
{
    struct option options[USERS_ARG_COUNT + 1] = {{NULL, 0, NULL, 0}};
    int count = 0;
    int found;

    for (users_argument argument = 0; argument < USERS_ARG_COUNT; argument++) {
        const users_argument_kind *kind = &users_arguments[argument];

        if (kind->option) {
            options[count++] = (struct option){
                kind->option, kind->operand ? required_argument : no_argument, NULL, argument};
        }
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is no other thread */
    while ((found = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (found == '?' || found == ':') {
            users_output_complain(USERS_EXIT_USAGE,
                                  found == '?' ? "there is no option %s" : "%s needs a value",
                                  argv[optind - 1]);
            return 0;
        }
        found = found == 'h' ? USERS_ARG_HELP : found;
        if (invocation->values[found]) {
            users_output_complain(USERS_EXIT_USAGE, "--%s is there twice",
                                  users_arguments[found].option);
            return 0;
        }
        invocation->values[found] = optarg ? optarg : "";
    }
    return optind;
}

/* The command that these words name, with an operand or without; NULL where there is none. */
static const users_command *find_command(char **words, int count)
{
    const users_command *named = NULL;

    for (const users_command *command = users_commands; command->noun; command++) {
        int length = command->verb ? 2 : 1;

        if (count < length || strcmp(words[0], command->noun) != 0 ||
            (command->verb && strcmp(words[1], command->verb) != 0)) {
            continue;
        }
        if ((count > length) == (command->operand != USERS_ARG_NONE || command->fields)) {
            return command;
        }
        named = command;
    }
    return named;
}

/* The words behind a command and its operand, of which count are left. */
static users_exit read_rest(users_invocation *invocation, char **words, int count)
{
    const users_command *command = invocation->command;

    if (command->fields && count == 0) {
        return users_output_complain(USERS_EXIT_USAGE, "%s %s needs %s", command->noun,
                                     command->verb, command->fields);
    }
    if (command->fields) {
        return users_fields_read(invocation, words, count);
    }
    return count > 0 ? users_output_complain(USERS_EXIT_USAGE, "%s is too much", words[0])
                     : USERS_EXIT_DONE;
}

/* The command, its operand and its fields. */
static users_exit read_words(users_invocation *invocation, char **words, int count)
{
    const users_command *command = find_command(words, count);
    int length;
    int operands;

    if (count == 0) {
        return users_output_complain(USERS_EXIT_USAGE, "no command: usersctl --help tells them");
    }
    if (!command) {
        return users_output_complain(USERS_EXIT_USAGE, "there is no command %s%s%s", words[0],
                                     count > 1 ? " " : "", count > 1 ? words[1] : "");
    }
    length = command->verb ? 2 : 1;
    operands = command->operand != USERS_ARG_NONE;
    if (count < length + operands) {
        return users_output_complain(USERS_EXIT_USAGE, "%s %s needs a %s", words[0], words[1],
                                     users_arguments[command->operand].operand);
    }
    if (operands && invocation->values[command->operand]) {
        return users_output_complain(USERS_EXIT_USAGE, "--%s is of no use here",
                                     users_arguments[command->operand].option);
    }
    if (operands) {
        invocation->values[command->operand] = words[length];
    }
    invocation->command = command;
    return read_rest(invocation, words + length + operands, count - length - operands);
}

/* Are the arguments there that the command wants, and none that it doesn't? */
static users_exit check_presence(const users_invocation *invocation)
{
    const users_command *command = invocation->command;
    users_argument_set known = USERS_ARGS_OF_ALL | command->required | command->optional |
                               (command->operand ? USERS_BIT(command->operand) : 0) |
                               (command->fields ? USERS_BIT(USERS_ARG_FIELDS) : 0);
    users_argument_set all_given = 0;

    for (users_argument argument = 0; argument < USERS_ARG_COUNT; argument++) {
        const char *option = users_arguments[argument].option;
        bool given = invocation->values[argument] != NULL;

        if (given && !(known & USERS_BIT(argument))) {
            return users_output_complain(USERS_EXIT_USAGE, "--%s is of no use here", option);
        }
        if (!given && (command->required & USERS_BIT(argument))) {
            return users_output_complain(USERS_EXIT_USAGE, "%s %s needs --%s", command->noun,
                                         command->verb, option);
        }
        all_given |= given ? USERS_BIT(argument) : 0;
    }
    if (command->needs_one && !(all_given & command->optional)) {
        return users_output_complain(USERS_EXIT_USAGE, "%s %s of what? See usersctl --help",
                                     command->noun, command->verb);
    }
    return USERS_EXIT_DONE;
}

/* Can the arguments hold these values? What is not given gets its initial one. */
static users_exit check_values(users_invocation *invocation)
{
    for (users_argument argument = 0; argument < USERS_ARG_COUNT; argument++) {
        const users_argument_kind *kind = &users_arguments[argument];
        const char *value = invocation->values[argument];

        if (!value) {
            invocation->values[argument] = kind->initial;
        } else if (kind->accepts && !kind->accepts(value)) {
            bool option = argument != invocation->command->operand;

            return users_output_complain(USERS_EXIT_USAGE, "%s%s%s%s \"%s\" must be %s",
                                         option ? "--" : "", option ? kind->option : "",
                                         option ? " " : "", kind->operand, value, kind->wanted);
        }
    }
    return USERS_EXIT_DONE;
}

static users_exit run(users_invocation *invocation)
{
    users_exit status = check_presence(invocation);

    if (status == USERS_EXIT_DONE) {
        status = check_values(invocation);
    }
    if (status == USERS_EXIT_DONE) {
        status = users_secrets_prepare(invocation);
    }
    if (status == USERS_EXIT_DONE && invocation->command->prepare) {
        status = invocation->command->prepare(invocation);
    }
    if (status == USERS_EXIT_DONE && !invocation->command->connects) {
        status = users_database_connect(&invocation->db, invocation->values[USERS_ARG_DB]);
    }
    if (status == USERS_EXIT_DONE) {
        status = invocation->command->run(invocation);
    }
    if (users_database_interrupted() && !invocation->command->runs_on) {
        users_output_complain(status, "interrupted");
    }
    PQfinish(invocation->db);
    return status;
}

/*
 * A descriptor that is closed would be the next socket's, and what is written to it would reach the
 * database. They are opened in the wrong direction, so that reading and writing fail, and are told.
 */
static bool open_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && (fd == STDIN_FILENO ? open("/dev/null", O_WRONLY)
                                                            : open("/dev/null", O_RDONLY)) != fd) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    users_invocation invocation = {0};
    users_exit status = USERS_EXIT_USAGE;
    int words;

    if (!open_standard_streams()) {
        return USERS_EXIT_FAILED; /* and nowhere to say why */
    }
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&invocation.pool, NULL) != APR_SUCCESS) {
        return users_output_complain(USERS_EXIT_FAILED, "no memory");
    }
    words = read_options(&invocation, argc, argv);
    if (words && invocation.values[USERS_ARG_HELP]) {
        status = print_help();
    } else if (words && invocation.values[USERS_ARG_VERSION]) {
        puts("usersctl (mod_users) " USERS_VERSION);
        status = users_output_finish();
    } else if (words) {
        status = read_words(&invocation, argv + words, argc - words);
        status = status == USERS_EXIT_DONE ? run(&invocation) : status;
    }
    apr_pool_destroy(invocation.pool);
    apr_terminate();
    return (int)status;
}
