"""A mail server: aiosmtpd, with STARTTLS and a login, or without either.

    smtp_server.py PORT [CERTIFICATE KEY USER PASSWORD]

The first line on stdout is {"port": N}. Each mail that is taken is a line with its envelope and its
content, and so is each recipient that is refused: those whose address begins with "refused". The file
that MAIL_FILE names gets the same lines, if there is one.
"""

import asyncio
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def say(line):
    print(json.dumps(line), flush=True)
    if file := os.environ.get("MAIL_FILE"):
        with open(file, "a") as mails:
            mails.write(json.dumps(line) + "\n")


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            say({"refused": address})
            return "550 5.1.1 no such mailbox: " + address
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        part = lambda kind: mail.get_body((kind,)).get_content()
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "text": part("plain"),
            "html": part("html"),
            "tls": session.ssl is not None,
            "user": getattr(session, "auth_data", None) and session.auth_data.login.decode(),
        })
        return "250 OK"


async def main(port, certificate=None, key=None, user=None, password=None):
    options = {}
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)

        def authenticator(server, session, envelope, mechanism, data):
            is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
            return AuthResult(success=is_right, auth_data=data)

        options = {
            "tls_context": context,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": authenticator,
        }
    loop = asyncio.get_running_loop()
    protocol = lambda: SMTP(Handler(), hostname="localhost", loop=loop, **options)
    server = await loop.create_server(protocol, "127.0.0.1", int(port))
    say({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
