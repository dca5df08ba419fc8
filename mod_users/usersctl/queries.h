/* What usersctl check asks PostgreSQL: one query for each thing that can be wrong. */
#ifndef USERS_QUERIES_H
#define USERS_QUERIES_H

/* What a query needs, or is made for; bits. */
typedef enum {
    USERS_QUERY_CONTRACT = 1, /* the schema users_api */
    USERS_QUERY_TABLES = 2,   /* the tables, whose owner's rights it needs not */
    USERS_QUERY_ROWS = 4,     /* the right to read the tables */
    USERS_QUERY_PRIMARY = 8   /* of a replica it tells nothing */
} users_query_needs;

/* Parameters, all texts. */
typedef enum {
    USERS_QUERY_ROLE,    /* the module's; null: all that may use the contract */
    USERS_QUERY_COUNTRY, /* defaults of new accounts; null: not known */
    USERS_QUERY_CURRENCY,
    USERS_QUERY_LOCALE,
    USERS_QUERY_DEMAND, /* how many connections httpd may open; null: not known */
    USERS_QUERY_DEMAND_REASON,
    USERS_QUERY_NOTES, /* null: neither UsersAudit nor UsersEvents is on, as far as is known */
    USERS_QUERY_PARAMETERS
} users_query_parameter;

/* Its rows are findings: level (users_findings_level()), text, and cure, null for none. */
typedef struct {
    const char *check;
    unsigned needs;
    const char *sql;
} users_query;

/* Those of the server and the database, and then those of what is in it. End with a check of NULL.
 */
extern const users_query users_queries_of_server[];
extern const users_query users_queries_of_contents[];

#endif
