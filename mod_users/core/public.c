#include "core/public.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The first bits of addresses, in the order of the network. */
typedef struct {
    uint8_t octets[16];
    int bits;
} prefix;

static const prefix private_ipv4[] = {
    {{0}, 8},
    {{10}, 8},
    {{100, 64}, 10}, /* carriers' NAT */
    {{127}, 8},
    {{169, 254}, 16}, /* link-local */
    {{172, 16}, 12},
    {{192, 0, 0}, 24},
    {{192, 0, 2}, 24}, /* documentation */
    {{192, 88, 99}, 24},
    {{192, 168}, 16},
    {{198, 18}, 15}, /* benchmarks */
    {{198, 51, 100}, 24},
    {{203, 0, 113}, 24},
    {{224}, 3}, /* multicast, reserved, broadcast */
};

/* Of IPv6 all that has been given out so far; what is not of it is loopback, local or multicast. */
static const prefix global_ipv6 = {{0x20}, 3};

static const prefix private_ipv6[] = {
    {{0x20, 0x01, 0x00}, 23},       /* protocols, such as Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00}, 20},
};

/* Behind these is an address of IPv4. */
static const prefix mapped = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96};
static const prefix translated = {{0x00, 0x64, 0xff, 0x9b}, 96}; /* NAT64, RFC 6052 */
static const prefix six_to_four = {{0x20, 0x02}, 16};            /* RFC 3056 */

static bool begins_with(const uint8_t *address, const prefix *p)
{
    int whole = p->bits / 8;
    int rest = p->bits % 8;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));

    return memcmp(address, p->octets, (size_t)whole) == 0 &&
           (rest == 0 || (address[whole] & mask) == (p->octets[whole] & mask));
}

static bool is_one_of(const uint8_t *address, const prefix *prefixes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (begins_with(address, &prefixes[i])) {
            return true;
        }
    }
    return false;
}

static bool is_public_ipv4(const uint8_t *address)
{
    return !is_one_of(address, private_ipv4, sizeof(private_ipv4) / sizeof(*private_ipv4));
}

static bool is_public_ipv6(const uint8_t *address)
{
    if (begins_with(address, &mapped) || begins_with(address, &translated)) {
        return is_public_ipv4(address + 12);
    }
    if (begins_with(address, &six_to_four)) {
        return is_public_ipv4(address + 2);
    }
    return begins_with(address, &global_ipv6) &&
           !is_one_of(address, private_ipv6, sizeof(private_ipv6) / sizeof(*private_ipv6));
}

bool users_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in ipv4;

        memcpy(&ipv4, address, sizeof(ipv4));
        return is_public_ipv4((const uint8_t *)&ipv4.sin_addr);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 ipv6;

        memcpy(&ipv6, address, sizeof(ipv6));
        return is_public_ipv6(ipv6.sin6_addr.s6_addr);
    }
    return false;
}
