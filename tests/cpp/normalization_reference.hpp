// What the tests of layer norm and channel norm share: one reference for both, a guarded workspace.
#pragma once
#include <math.h>

#include <limits>

#include "guarded_bytes.hpp"

namespace test {

inline constexpr double epsilon = 1e-5;
inline constexpr int with_weight = 1, with_bias = 2, with_rms = 4;

inline constexpr real nan = std::numeric_limits<real>::quiet_NaN();

inline const hominy_tensor* given_if(bool wanted, const hominy_tensor* tensor) { return wanted ? tensor : nullptr; }

// Scratch of exactly the size asked for, full of NaN.
class workspace {
 public:
  explicit workspace(int64_t bytes) : bytes_(0, std::max<int64_t>(bytes, 0)) {
    check(bytes >= 0, "workspace of %lld bytes", (long long)bytes);
    memset(bytes_.data(), 0xff, size_t(bytes_.size()));
  }
  ~workspace() { check(bytes_.guards_intact(), "wrote outside the workspace"); }
  void* data() { return bytes_.data(); }
  int64_t bytes() const { return bytes_.size(); }

 private:
  guarded_bytes bytes_;
};

// What both kernels compute, and how far off they may be. Elements are numbered in C order; each belongs to a statistic
// (a row, a channel, a group of channels of an item) and to a parameter (a column, a channel).
struct reference {
  std::vector<int64_t> statistic_of, parameter_of;
  int64_t statistics = 0, parameters = 0;
  real shared = 0, summed = 0;  // elements of a statistic, of a parameter
  real u = 0, epsilon = 0;
  bool about_zero = false, fixed = false;
  std::vector<real> x, gradient, weight, bias;
  std::vector<real> mean, variance;  // for `fixed` and for backward: given; forward finds its own otherwise
  std::vector<real> rstd;            // for backward

  real weight_of(size_t i) const { return weight.empty() ? 1 : weight[size_t(parameter_of[i])]; }
  real bias_of(size_t i) const { return bias.empty() ? 0 : bias[size_t(parameter_of[i])]; }
  real factor(real n) const { return (40 + n / 2048 + 8) * u; }

  template <class Term>
  std::vector<real> sums(const std::vector<int64_t>& to, int64_t count, Term term) const {
    std::vector<real> all(size_t(count), 0);
    for (size_t i = 0; i < to.size(); ++i) all[size_t(to[i])] += term(i);
    return all;
  }
  template <class Term>
  std::vector<real> means(Term term) const {
    auto all = sums(statistic_of, statistics, term);
    for (real& each : all) each /= shared;
    return all;
  }

  struct results {
    std::vector<expectation> out, mean, variance, rstd;
  };
  results forward() const {
    results all;
    std::vector<real> m = mean, v = variance, magnitude(size_t(statistics), 0);
    if (!fixed) {
      m = means([&](size_t i) { return about_zero ? 0 : x[i]; });
      magnitude = means([&](size_t i) { return about_zero ? 0 : fabsl(x[i]); });
      v = means([&](size_t i) {
        const real distance = x[i] - m[size_t(statistic_of[i])];
        return distance * distance;
      });
    }
    for (size_t s = 0; s < m.size(); ++s) {
      const real of_mean = factor(shared) * magnitude[s];
      const real of_variance = factor(shared) * v[s] + 2 * sqrtl(v[s]) * of_mean + of_mean * of_mean;
      const real r = 1 / sqrtl(v[s] + epsilon);
      all.mean.push_back({m[s], of_mean});
      all.variance.push_back({v[s], of_variance});
      all.rstd.push_back({r, r * (of_variance * r * r + 4 * u)});
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t s = size_t(statistic_of[i]);
      const real r = all.rstd[s].value, z = (x[i] - m[s]) * r, w = weight_of(i), value = z * w + bias_of(i);
      const real distance = fabsl(z) + fabsl(m[s]) * r + 1;
      all.out.push_back({value, factor(shared) * fabsl(w) * distance + 2 * u * (fabsl(value) + fabsl(bias_of(i)))});
    }
    return all;
  }

  struct gradients {
    std::vector<expectation> out, weight, bias;
  };
  gradients backward() const {
    gradients all;
    std::vector<real> z(x.size()), g(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      z[i] = (x[i] - mean[size_t(statistic_of[i])]) * rstd[size_t(statistic_of[i])];
      g[i] = gradient[i] * weight_of(i);
    }
    std::vector<real> of_mean(size_t(statistics), 0), of_z = of_mean, size_of_mean = of_mean, size_of_z = of_mean;
    if (!fixed) {
      of_z = means([&](size_t i) { return g[i] * z[i]; });
      size_of_z = means([&](size_t i) { return fabsl(g[i] * z[i]); });
      if (!about_zero) {
        of_mean = means([&](size_t i) { return g[i]; });
        size_of_mean = means([&](size_t i) { return fabsl(g[i]); });
      }
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t s = size_t(statistic_of[i]);
      all.out.push_back({rstd[s] * (g[i] - of_mean[s] - z[i] * of_z[s]),
                         factor(shared) * rstd[s] * (fabsl(g[i]) + size_of_mean[s] + fabsl(z[i]) * size_of_z[s])});
    }
    const auto of_parameters = [&](auto term) {
      const auto values = sums(parameter_of, parameters, term);
      const auto sizes = sums(parameter_of, parameters, [&](size_t i) { return fabsl(term(i)); });
      std::vector<expectation> list;
      for (size_t p = 0; p < values.size(); ++p) list.push_back({values[p], factor(summed) * sizes[p]});
      return list;
    };
    all.weight = of_parameters([&](size_t i) { return gradient[i] * z[i]; });
    all.bias = of_parameters([&](size_t i) { return gradient[i]; });
    return all;
  }
};

inline std::vector<real> values_of(const array& a) {
  std::vector<real> all(size_t(a.size()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = a[int64_t(i)];
  return all;
}

inline void check_list(const array& got, const std::string& what, const std::vector<expectation>& expected) {
  check_elements(got, what, [&](int64_t i) { return expected[size_t(i)]; });
}

inline void append(std::vector<unsigned char>& all, const std::vector<unsigned char>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace test
