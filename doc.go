// Package weightseal is the root of the module, and holds the tests of the
// house as a whole: which package may import which, what library code may do,
// what may lie in the repository. The product is in the packages below it;
// docs/architecture.md is the map.
package weightseal
