#include "http/network.h"

#include <apr_network_io.h>
#include <stdbool.h>
#include <string.h>

#define V4 0xffffu /* before the four octets, as of ::ffff:0:0/96 */

apr_uint64_t users_network_of(const request_rec *r)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    const unsigned char *octets = r->useragent_addr->ipaddr_ptr; /* network byte order */
    bool v4 = r->useragent_addr->family == APR_INET;
    apr_uint64_t number = 0;
    int count = 8;

    if (!v4 && memcmp(octets, mapped, sizeof(mapped)) == 0) {
        octets += sizeof(mapped); /* an IPv4 client of an IPv6 listener */
        v4 = true;
    }
    if (v4) {
        number = V4;
        count = 4;
    }
    for (int i = 0; i < count; i++) {
        number = number << 8 | octets[i];
    }
    return number;
}
