#include "core/origin.h"

#include "unit.h"

static void check(const char *const *texts, size_t count, bool wanted)
{
    for (size_t i = 0; i < count; i++) {
        if (users_origin_is_serialised(texts[i]) != wanted) {
            fail_msg("\"%s\" is %s", texts[i], wanted ? "refused" : "taken");
        }
    }
}

static void takes_what_browsers_send(void **state)
{
    static const char *const texts[] = {
        "https://panel.example",
        "http://panel.example",
        "https://panel.example:8443",
        "https://panel.example:80",
        "http://panel.example:443",
        "http://localhost:3000",
        "http://panel",
        "https://my_panel.example",
        "https://4panel.example",
        "https://0xpanel.example",
        "https://xn--bcher-kva.example",
        "https://192.0.2.1",
        "http://127.0.0.1:65535",
        "http://[::1]",
        "http://[::1]:1",
        "https://[2001:db8::1:0:0:1]:8443",
    };

    (void)state;
    check(texts, COUNT(texts), true);
}

static void refuses_what_they_never_send(void **state)
{
    static const char *const texts[] = {
        "",
        "null",
        "*",
        "panel.example",
        "//panel.example",
        "https:panel.example",
        "https://",
        "https:///",
        "https://:8443",
        "ftp://panel.example",
        "chrome-extension://panel",
        "HTTPS://panel.example",
        "https://Panel.example",
        "https://panel.example/",
        "https://panel.example/path",
        "https://panel.example?query",
        "https://panel.example#fragment",
        "https://user@panel.example",
        "https://user:1@panel.example",
        "https://panel.example,https://other.example",
        "https://panel.example https://other.example",
        "https://*.panel.example",
        "https://b\xc3\xbc"
        "cher.example",
        "https://panel..example",
        "https://.panel.example",
        "https://pa\nnel.example",
        "https://panel.example:",
        "https://panel.example:443",
        "http://panel.example:80",
        "https://panel.example:0",
        "https://panel.example:08443",
        "https://panel.example:+8443",
        "https://panel.example:65536",
        "https://panel.example:100000",
        "https://panel.example:18446744073709551617",
        "https://panel.example:8443/",
        "https://panel.example:8443:1",
        "https://192.0.2",
        "https://192.0.2.256",
        "https://192.0.2.01",
        "https://3221225985",
        "https://0xc0000201",
        "https://192.0.2.0x1",
        "http://[::1",
        "http://[]",
        "http://[::1]x",
        "http://[::1]:80",
        "http://[0:0:0:0:0:0:0:1]",
        "http://[2001:DB8::1]",
        "http://[2001:0db8::1]",
        "http://[2001:db8:0:0:1::1]",
        "http://[fe80::1%25eth0]",
        "http://[127.0.0.1]",
        "http://::1",
        /* 254 octets, one more than a name may have */
        "https://a12345678901234567890123456789012345678901234567890123456789012."
        "b12345678901234567890123456789012345678901234567890123456789012."
        "c12345678901234567890123456789012345678901234567890123456789012."
        "d1234567890123456789012345678901234567890123456789012345678901",
    };

    (void)state;
    check(texts, COUNT(texts), false);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(takes_what_browsers_send),
    cmocka_unit_test(refuses_what_they_never_send),
};

UNIT_MAIN(tests)
