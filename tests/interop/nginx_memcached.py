"""nginx's memcached module serves pages that an ordinary client has stored, with a fallback."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time

from pymemcache.client.base import Client

host, port = sys.argv[1].split(":")
cache = Client((host, int(port)), default_noreply=False)
folder = tempfile.TemporaryDirectory()

TEMPORARY = ["client_body", "fastcgi", "proxy", "scgi", "uwsgi"]
# nginx writes all its files to one folder; a Unix socket needs no free port.
CONFIGURATION = f"""
daemon off;
error_log stderr;
pid {folder.name}/pid;
events {{}}
http {{
    access_log off;
    {"".join(f"{kind}_temp_path {folder.name}/{kind};" for kind in TEMPORARY)}
    server {{
        listen unix:{folder.name}/http;
        location / {{
            set $memcached_key $uri;
            memcached_pass {host}:{port};
            memcached_gzip_flag 2;
            memcached_read_timeout 60;
            error_page 404 = @database;
        }}
        location @database {{ return 203 "from the database"; }}
    }}
}}
"""


def page(path):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(f"{folder.name}/http")
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.getheader("Content-Encoding"), answer.read()
    connection.close()
    return found


def listening(nginx):
    while nginx.poll() is None:
        if os.path.exists(f"{folder.name}/pid"):
            return True
        time.sleep(0.01)
    return False


def check():
    miss = 203, None, b"from the database"
    cache.delete_many(["/page", "/large", "/gzip", "/%20"])
    assert page("/page") == miss
    cache.set("/page", "<p>Ada")
    assert page("/page") == (200, None, b"<p>Ada")
    cache.set("/page", "<p>Eve", expire=-1)
    assert page("/page") == miss
    # nginx escapes characters that a key must not contain.
    cache.set("/%20", "a space")
    assert page("/%20") == (200, None, b"a space")
    large = bytes(range(256)) * 2000
    cache.set("/large", large)
    assert page("/large") == (200, None, large)
    cache.set("/gzip", b"\x1f\x8b", flags=2)
    assert page("/gzip") == (200, "gzip", b"\x1f\x8b")
    cache.delete("/large")
    assert page("/large") == miss


with open(f"{folder.name}/nginx.conf", "w") as file:
    file.write(CONFIGURATION)
os.chmod(folder.name, 0o755)
nginx = subprocess.Popen(["/usr/sbin/nginx", "-e", "stderr", "-p", folder.name, "-c", f"{folder.name}/nginx.conf"])
try:
    assert listening(nginx)
    check()
finally:
    nginx.terminate()
    nginx.wait()
