# conf/users.conf as Debian's: loaded for the whole server, with the endpoints as comments.
/^# Include it in the virtual host/,/^# the server every virtual host/ {
    /^# Include/ !d
    c\
# Debian loads it for the whole server. It turns no endpoint on: that is for the virtual host that serves\
# the API through TLS, as at this level every virtual host would serve it, plain HTTP too. Copy what is at\
# the end of this file there, or begin with /usr/share/doc/libapache2-mod-users/examples/site.conf.
}
/^# --- The endpoints/,$ s/^[^#]/#&/
