"""Issue the certificate of a device with a signer of your own: here a key in memory, elsewhere a token or a service."""

from fleeti import pki


class Signer:
    """What `fleeti` needs of a key. The private key stays behind `sign`."""

    algorithm: pki.Algorithm = "p384"

    def __init__(self) -> None:
        self.key = pki.SoftKey.generate("p384")
        self.public_key_der = self.key.public_key_der

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


ca_key, device_key = Signer(), pki.SoftKey.generate("p256")
ca = pki.self_signed_root(ca_key, valid_s=86_400)
certificate = pki.issue_device("dev-1", pki.create_request(device_key), ca, ca_key, valid_s=3600)
print(pki.device_of(certificate), pki.is_signed_by(certificate, ca))
