"""An SMTP relay, by aiosmtpd. Prints its port, and each e-mail as one line of JSON.

smtp_relay.py implicit|starttls|none CERTIFICATE KEY [USER PASSWORD]

`denied@` and `policy@` are refused for a reason that an operator repairs, `refused@` is no receiver, `later@` none at the first attempt, and `slow@` answers after a minute.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

MODE, CERTIFICATE, KEY, *LOGIN = sys.argv[1:]


class Handler:
    def __init__(self):
        self.seen = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 5.1.1 no such receiver"
        if address.startswith("denied@"):
            return "554 5.7.1 relay access denied"
        if address.startswith("later@") and address not in self.seen:
            self.seen.add(address)
            return "451 4.2.0 come back later"
        if address.startswith("slow@"):
            await asyncio.sleep(60)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        if any(to.startswith("policy@") for to in envelope.rcpt_tos):
            return "550 5.7.60 may not send as this sender"
        email = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "data": envelope.content.decode("ascii"),
            "is_encrypted": session.ssl is not None or MODE == "implicit",
            "user": session.auth_data.login.decode() if session.auth_data else None,
        }
        print(json.dumps(email), flush=True)
        return "250 2.0.0 kept"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and [data.login.decode(), data.password.decode()] == LOGIN
    return AuthResult(success=good, handled=good, auth_data=data)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    options = {"hostname": "relay.test", "enable_SMTPUTF8": False}
    if LOGIN:
        options |= {"authenticator": authenticate, "auth_required": True}
        # aiosmtpd does not see the TLS around it.
        options |= {"auth_require_tls": MODE == "starttls"}
    if MODE == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    handler = Handler()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, **options),
        host="127.0.0.1",
        port=0,
        ssl=context if MODE == "implicit" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
