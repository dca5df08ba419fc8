#include "usersctl/scripts.h"

#include "core/credential.h"

#include <apr_escape.h>
#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX        ".sql"
#define MIGRATION     "[0-9][0-9][0-9]-*" SUFFIX
#define OPENS_INDEX   "--! index " /* the first line of a file, see sql/migrations/README */
#define OPENS_BATCHES "--! batches"
#define MAX_FILE_SIZE 16777216 /* octets */
#define COUNT(array)  (sizeof(array) / sizeof(*(array)))

static const char *const install_files[] = {
    "document.sql", "tables.sql",   "views.sql",  "reference.sql", "contract.sql",
    "update.sql",   "register.sql", "tokens.sql", "admin.sql",     "accounts.sql",
    "plans.sql",    "usage.sql",    "events.sql", "role.sql",      "panel.sql"};
static const char *const repeated_files[] = {
    "document.sql", "reference.sql", "contract.sql", "update.sql", "register.sql",
    "tokens.sql",   "admin.sql",     "accounts.sql", "plans.sql",  "usage.sql",
    "events.sql",   "role.sql",      "panel.sql"};

/* For these a superuser stays one. */
static bool is_of_roles(const char *name)
{
    return strcmp(name, "role.sql") == 0 || strcmp(name, "panel.sql") == 0;
}

static users_exit complain(const char *path, apr_status_t status)
{
    char reason[128];

    return users_output_complain(USERS_EXIT_FAILED,
                                 "cannot read %s: %s (--sql DIR names the "
                                 "directory of this version's SQL)",
                                 path, apr_strerror(status, reason, sizeof(reason)));
}

static apr_status_t read_open_file(apr_pool_t *pool, apr_file_t *file, char **text)
{
    apr_finfo_t info;
    apr_size_t length;
    apr_status_t status = apr_file_info_get(&info, APR_FINFO_SIZE, file);

    if (status == APR_SUCCESS && info.size > MAX_FILE_SIZE) {
        return APR_EINVAL;
    }
    if (status == APR_SUCCESS) {
        *text = apr_palloc(pool, (apr_size_t)info.size + 1);
        status = apr_file_read_full(file, *text, (apr_size_t)info.size, &length);
        (*text)[status == APR_SUCCESS ? length : 0] = '\0';
    }
    return status;
}

static users_exit read_file(apr_pool_t *pool, const char *directory, const char *name, char **text)
{
    const char *path = apr_pstrcat(pool, directory, "/", name, NULL);
    apr_file_t *file;
    apr_status_t status = apr_file_open(&file, path, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, pool);

    if (status == APR_SUCCESS) {
        status = read_open_file(pool, file, text);
        apr_file_close(file);
    }
    return status == APR_SUCCESS ? USERS_EXIT_DONE : complain(path, status);
}

static users_exit add_file(apr_pool_t *pool, const char *directory, const char *name,
                           apr_array_header_t *scripts)
{
    users_script *script = apr_array_push(scripts);
    char *text = NULL;
    users_exit status = read_file(pool, directory, name, &text);

    *script = (users_script){
        .name = name, .text = text, .transaction = true, .owner = !is_of_roles(name)};
    return status;
}

static users_exit add_files(apr_pool_t *pool, const char *directory, const char *const *names,
                            size_t count, apr_array_header_t **scripts)
{
    users_exit status = USERS_EXIT_DONE;

    *scripts = apr_array_make(pool, (int)count, sizeof(users_script));
    for (size_t i = 0; i < count && status == USERS_EXIT_DONE; i++) {
        status = add_file(pool, directory, names[i], *scripts);
    }
    return status;
}

users_exit users_scripts_read_install(apr_pool_t *pool, const char *directory,
                                      apr_array_header_t **scripts)
{
    return add_files(pool, directory, install_files, COUNT(install_files), scripts);
}

users_exit users_scripts_read_repeated(apr_pool_t *pool, const char *directory,
                                       apr_array_header_t **scripts, const char **digest)
{
    unsigned char octets[USERS_DIGEST_LENGTH];
    const char *all = "";
    users_exit status = add_files(pool, directory, repeated_files, COUNT(repeated_files), scripts);

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    for (int i = 0; i < (*scripts)->nelts; i++) {
        all = apr_pstrcat(pool, all, APR_ARRAY_IDX(*scripts, i, users_script).text, NULL);
    }
    if (!users_credential_digest(all, octets)) {
        return users_output_complain(USERS_EXIT_FAILED, "cannot compute SHA-256");
    }
    *digest = apr_pescape_hex(pool, octets, sizeof(octets), 0);
    return USERS_EXIT_DONE;
}

/* Migrations */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static users_exit list_migrations(apr_pool_t *pool, const char *directory,
                                  apr_array_header_t **names)
{
    apr_finfo_t entry;
    apr_dir_t *opened;
    apr_status_t status = apr_dir_open(&opened, directory, pool);

    *names = apr_array_make(pool, 8, sizeof(const char *));
    if (status != APR_SUCCESS) {
        return complain(directory, status);
    }
    while ((status = apr_dir_read(&entry, APR_FINFO_NAME, opened)) == APR_SUCCESS) {
        if (apr_fnmatch(MIGRATION, entry.name, 0) == APR_SUCCESS) {
            APR_ARRAY_PUSH(*names, const char *) = apr_pstrdup(pool, entry.name);
        }
    }
    apr_dir_close(opened);
    if (!APR_STATUS_IS_ENOENT(status)) { /* which is the end */
        return complain(directory, status);
    }
    qsort((*names)->elts, (size_t)(*names)->nelts, sizeof(const char *), compare_names);
    return USERS_EXIT_DONE;
}

/* What its first line says. */
static void classify(apr_pool_t *pool, users_script *script)
{
    script->name = apr_pstrmemdup(pool, script->name, strlen(script->name) - strlen(SUFFIX));
    if (strncmp(script->text, OPENS_INDEX, strlen(OPENS_INDEX)) == 0) {
        const char *name = script->text + strlen(OPENS_INDEX);

        script->index = apr_pstrmemdup(pool, name, strcspn(name, " \r\n"));
        script->transaction = false;
    } else if (strncmp(script->text, OPENS_BATCHES, strlen(OPENS_BATCHES)) == 0) {
        script->transaction = false;
    }
}

users_exit users_scripts_read_migrations(apr_pool_t *pool, const char *directory,
                                         apr_array_header_t **scripts)
{
    const char *path = apr_pstrcat(pool, directory, "/migrations", NULL);
    apr_array_header_t *names;
    users_exit status = list_migrations(pool, path, &names);

    if (status == USERS_EXIT_DONE) {
        status =
            add_files(pool, path, (const char *const *)names->elts, (size_t)names->nelts, scripts);
    }
    for (int i = 0; status == USERS_EXIT_DONE && i < (*scripts)->nelts; i++) {
        classify(pool, &APR_ARRAY_IDX(*scripts, i, users_script));
    }
    return status;
}
