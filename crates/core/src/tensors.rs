//! safetensors: bytes ⇄ checked views, our own sorted writer.
