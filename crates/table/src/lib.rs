//! Files become counted, digested, sliceable columns and back: Arrow, Parquet, DataFusion.
