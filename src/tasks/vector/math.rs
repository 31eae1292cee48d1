//! Math: what `vector_processing` computes over one chunk of vectors. Pure.
//!
//! For each vector x:
//! - **L2 norm**: its length, `sqrt(x₁² + … + xₙ²)`.
//! - **Normalisation**: the vector divided by its norm, so that it has length 1 and only its direction counts, as
//!   cosine similarity wants it. A vector of zeros has no direction and stays as it is.
//!
//! For each dimension, over the normalised vectors of the chunk: **mean**, **minimum** and **maximum**.
//!
//! **8-bit scalar quantisation**: each normalised component becomes one byte, 0 at its dimension's minimum and 255 at
//! the maximum: `code = round((x - min) / (max - min) × 255)`. A reader gets `min + code / 255 × (max - min)` back,
//! which is off by at most half a step, `(max - min) / 510`, at an eighth of the memory of 64-bit numbers.

/// Equally long vectors, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    dimensions: usize,
    components: Vec<f64>,
}

/// What a chunk of vectors comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// The L2 norm of each vector.
    pub norms: Vec<f64>,
    /// For each dimension, over the normalised vectors.
    pub dimensions: Vec<Dimension>,
    /// The normalised vectors, quantised, one after the other.
    pub codes: Vec<u8>,
}

/// One dimension of a chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dimension {
    /// The mean.
    pub mean: f64,
    /// The smallest component; code 0.
    pub min: f64,
    /// The largest component; code 255.
    pub max: f64,
}

impl Vectors {
    /// Vectors of this many components each, which is at least one and divides the components without rest.
    pub fn new(dimensions: usize, components: Vec<f64>) -> Self {
        debug_assert!(dimensions > 0 && components.len().is_multiple_of(dimensions));
        Self { dimensions, components }
    }

    /// Components of each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many vectors.
    pub fn count(&self) -> usize {
        self.components.len() / self.dimensions
    }

    /// The components of the vectors `from..to`.
    pub fn range(&self, from: usize, to: usize) -> &[f64] {
        &self.components[from * self.dimensions..to * self.dimensions]
    }
}

/// Computes a chunk: `components` holds one or more vectors of `dimensions` finite numbers.
pub fn process(components: &[f64], dimensions: usize) -> Chunk {
    let mut normalised = components.to_vec();
    let norms = normalised.chunks_exact_mut(dimensions).map(normalise).collect();
    let stats = per_dimension(&normalised, dimensions);
    let codes = normalised
        .chunks_exact(dimensions)
        .flat_map(|vector| vector.iter().zip(&stats).map(|(component, dimension)| dimension.encode(*component)))
        .collect();
    Chunk { norms, dimensions: stats, codes }
}

/// Divides a vector by its norm and returns the norm. The components are scaled by the largest one before they are
/// squared: else 1e200 would overflow and 1e-200 vanish.
fn normalise(vector: &mut [f64]) -> f64 {
    let largest = vector.iter().fold(0.0_f64, |largest, component| largest.max(component.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    vector.iter_mut().for_each(|component| *component /= largest);
    let scaled = vector.iter().map(|component| component * component).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|component| *component /= scaled);
    largest * scaled
}

fn per_dimension(normalised: &[f64], dimensions: usize) -> Vec<Dimension> {
    let mut stats = vec![Dimension { mean: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }; dimensions];
    for vector in normalised.chunks_exact(dimensions) {
        for (dimension, component) in stats.iter_mut().zip(vector) {
            dimension.mean += component;
            dimension.min = dimension.min.min(*component);
            dimension.max = dimension.max.max(*component);
        }
    }
    let vectors = (normalised.len() / dimensions) as f64;
    stats.iter_mut().for_each(|dimension| dimension.mean /= vectors);
    stats
}

impl Dimension {
    fn encode(&self, component: f64) -> u8 {
        let width = self.max - self.min;
        // A constant dimension has one code. A float's conversion to u8 saturates, so rounding cannot overflow.
        if width > 0.0 { ((component - self.min) / width * 255.0).round() as u8 } else { 0 }
    }

    /// What a reader gets back from a code.
    pub fn decode(&self, code: u8) -> f64 {
        self.min + f64::from(code) / 255.0 * (self.max - self.min)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_chunk() {
        let chunk = process(&[3.0, 4.0, 0.0, -2.0, 0.0, 0.0], 2);
        assert_eq!(chunk.norms, [5.0, 2.0, 0.0]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let [x, y] = chunk.dimensions[..] else { panic!("two dimensions") };
        assert!(close(x.mean, 0.2) && x.min == 0.0 && close(x.max, 0.6), "{x:?}");
        assert!(close(y.mean, (0.8 - 1.0) / 3.0) && close(y.min, -1.0) && close(y.max, 0.8), "{y:?}");
        assert_eq!(chunk.codes, [255, 255, 0, 0, 0, 142]);
    }

    #[test]
    fn very_large_and_very_small_numbers_have_norms() {
        for scale in [1e300, 1.0, 1e-300] {
            let chunk = process(&[3.0 * scale, 4.0 * scale], 2);
            assert!((chunk.norms[0] / (5.0 * scale) - 1.0).abs() < 1e-12, "{scale}");
            assert!((chunk.dimensions[1].max - 0.8).abs() < 1e-12, "{scale}");
        }
    }

    proptest! {
        #[test]
        fn quantisation_is_off_by_half_a_step_at_most(
            (dimensions, components) in (1usize..6).prop_flat_map(|dimensions| {
                (Just(dimensions), (1usize..20).prop_flat_map(move |vectors| {
                    prop::collection::vec(-1e9..1e9, dimensions * vectors)
                }))
            })
        ) {
            let chunk = process(&components, dimensions);
            let mut normalised = components.clone();
            for (vector, norm) in normalised.chunks_exact_mut(dimensions).zip(&chunk.norms) {
                let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
                prop_assert!((length - norm).abs() <= 1e-9 * norm.max(1.0));
                vector.iter_mut().for_each(|x| if length > 0.0 { *x /= length });
            }
            for (position, (component, code)) in normalised.iter().zip(&chunk.codes).enumerate() {
                let dimension = &chunk.dimensions[position % dimensions];
                let half_a_step = (dimension.max - dimension.min) / 510.0;
                prop_assert!((dimension.decode(*code) - component).abs() <= half_a_step + 1e-9);
                prop_assert!(dimension.min <= dimension.mean + 1e-9 && dimension.mean <= dimension.max + 1e-9);
            }
        }
    }
}
