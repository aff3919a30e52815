//! Documents for other tools about our bytes: OMS signatures, in-toto verdicts, SLSA provenance, a CycloneDX bill of materials.
