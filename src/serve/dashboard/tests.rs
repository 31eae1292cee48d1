//! The files of the dashboard: their sizes, what they must not say, and the colours' contrast.
