/*
 * A resolver that does as a test says: t/fault/dns.t preloads this into httpd. Names that end in
 * .test are looked up in the file that USERS_RESOLVER names, each on a line of its own, and behind
 * it what comes of that:
 *
 *     db.test 127.0.0.2,127.0.0.1
 *     db.test fails           as where no server answers, at once
 *     db.test hangs           until the file says something else
 *
 * One that has no line does not exist. The file's name with .asked behind it is that of a file to
 * which each name that is looked up is added. Other names and addresses go to the C library.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_LENGTH 256

typedef int getaddrinfo_function(const char *, const char *, const struct addrinfo *,
                                 struct addrinfo **);

static getaddrinfo_function *find_real(void)
{
    getaddrinfo_function *real;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real;
}

static bool is_ours(const char *name)
{
    size_t length = name ? strlen(name) : 0;

    return length > 5 && strcmp(name + length - 5, ".test") == 0;
}

/* What the file says behind a name; empty where it says nothing. */
static void find_line(const char *file, const char *name, char what[LINE_LENGTH])
{
    char line[LINE_LENGTH];
    size_t length = strlen(name);
    FILE *lines = fopen(file, "r");

    what[0] = '\0';
    while (lines && fgets(line, sizeof(line), lines)) {
        if (strncmp(line, name, length) == 0 && line[length] == ' ') {
            line[strcspn(line, "\n")] = '\0';
            snprintf(what, LINE_LENGTH, "%s", line + length + 1);
        }
    }
    if (lines) {
        fclose(lines);
    }
}

static void note(const char *file, const char *name)
{
    char path[4096];
    char line[LINE_LENGTH];
    int fd;

    snprintf(path, sizeof(path), "%s.asked", file);
    snprintf(line, sizeof(line), "%s\n", name);
    fd = open(path, O_WRONLY | O_APPEND);
    if (fd >= 0) {
        if (write(fd, line, strlen(line)) < 0) {
            perror(path);
        }
        close(fd);
    }
}

/* A list of addresses with commas between them, in its order. */
static int read_list(char *list, const char *service, const struct addrinfo *hints,
                     struct addrinfo **found)
{
    struct addrinfo numeric = hints ? *hints : (struct addrinfo){.ai_family = AF_UNSPEC};
    struct addrinfo **end = found;
    char *rest = NULL;

    *found = NULL;
    numeric.ai_flags |= AI_NUMERICHOST;
    for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        int error = find_real()(one, service, &numeric, end);

        if (error) {
            return error;
        }
        while (*end) {
            end = &(*end)->ai_next;
        }
    }
    return *found ? 0 : EAI_NONAME;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    const char *file = getenv("USERS_RESOLVER");
    char what[LINE_LENGTH];

    if (!file || !is_ours(name) || (hints && hints->ai_flags & AI_NUMERICHOST)) {
        return find_real()(name, service, hints, found);
    }
    note(file, name);
    find_line(file, name, what);
    while (strcmp(what, "hangs") == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        find_line(file, name, what);
    }
    return strcmp(what, "fails") == 0 ? EAI_AGAIN : read_list(what, service, hints, found);
}
