// Package attest makes, signs, stores, finds and verifies the safetensors
// compliance statement: an in-toto Statement v1 in a DSSE envelope, stored as
// a Sigstore bundle v0.3 referrer and under cosign's legacy attestation tag.
//
// docs/statement.md explains the statement and its storage;
// docs/safetensors-compliance-v1.schema.json is the JSON Schema of its
// predicate.
package attest

// PredicateType is compared as an exact string.
const PredicateType = "https://weightseal.dev/safetensors-compliance/v1"
