#include "usersctl/fields.h"

#include "core/json.h"
#include "core/unicode.h"

#include <apr_strings.h>
#include <string.h>

static users_exit complain_of_memory(void)
{
    return users_output_complain(USERS_EXIT_FAILED, "no memory");
}

static users_exit read_word(users_invocation *invocation, const char *word)
{
    const char *end = strchr(word, '=');
    const char *name;

    if (!end || end == word || !users_is_utf8(users_span_of(word))) {
        return users_output_complain(USERS_EXIT_USAGE, "\"%s\" must be %s, in UTF-8", word,
                                     invocation->command->fields);
    }
    name = apr_pstrmemdup(invocation->pool, word, (apr_size_t)(end - word));
    if (json_object_get(invocation->fields, name)) {
        return users_output_complain(USERS_EXIT_USAGE, "%s was given twice", name);
    }
    if (json_object_set_new(invocation->fields, name, json_string(end + 1)) != 0) {
        return complain_of_memory();
    }
    return USERS_EXIT_DONE;
}

users_exit users_fields_read(users_invocation *invocation, char **words, int count)
{
    users_exit status = USERS_EXIT_DONE;

    invocation->fields = json_object();
    if (!invocation->fields) {
        return complain_of_memory();
    }
    users_json_free_with(invocation->pool, invocation->fields);
    for (int i = 0; i < count && status == USERS_EXIT_DONE; i++) {
        status = read_word(invocation, words[i]);
    }
    if (status == USERS_EXIT_DONE) {
        const char *text = users_json_text(invocation->fields, invocation->pool);

        invocation->values[USERS_ARG_FIELDS] = text;
        return text ? status : complain_of_memory();
    }
    return status;
}
