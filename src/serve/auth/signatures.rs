//! Signatures: what `jsonwebtoken` verifies with: ring, which TLS has brought along, instead of a second library.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::ErrorKind,
    signature::{Error, Verifier},
};
use ring::signature::{self as verify, RsaParameters, VerificationAlgorithm};

static PROVIDER: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Verification { algorithm: *algorithm, key: key.clone() })),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring what tokens are verified with. Harmless to repeat.
pub(super) fn install() {
    // The second call is refused, and the first one stands.
    let _ = PROVIDER.install_default();
}

struct Verification {
    algorithm: Algorithm,
    key: DecodingKey,
}

enum Kind {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

impl Verification {
    fn kind(&self) -> Option<Kind> {
        Some(match self.algorithm {
            Algorithm::RS256 => Kind::Rsa(&verify::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Kind::Rsa(&verify::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Kind::Rsa(&verify::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Kind::Rsa(&verify::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Kind::Rsa(&verify::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Kind::Rsa(&verify::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Kind::Other(&verify::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Kind::Other(&verify::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Kind::Other(&verify::ED25519),
            // Shared secrets: never.
            _ => return None,
        })
    }

    fn is_good(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        match (self.kind()?, self.key.kind()) {
            (Kind::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                verify::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).ok()
            }
            (Kind::Other(algorithm), DecodingKeyKind::SecretOrDer(key)) => {
                verify::UnparsedPublicKey::new(algorithm, key).verify(message, signature).ok()
            }
            _ => None,
        }
    }
}

impl Verifier<Vec<u8>> for Verification {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        self.is_good(message, signature).ok_or_else(Error::new)
    }
}

impl JwtVerifier for Verification {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
